import datasets
import numpy as np
import pytest

from trivium.configuration import InputError
from trivium.training.whole import WholeDocuments, cut_documents, fill_rows


def dataset(documents):
    features = datasets.Features({"input_ids": datasets.List(datasets.Value("int32"))})
    return datasets.Dataset.from_dict({"input_ids": documents}, features=features)


@pytest.mark.parametrize("overlap", [0, 1, 3])
@pytest.mark.parametrize("size", [4, 5, 16])
def test_every_token_is_read_and_none_but_the_overlap_twice(size, overlap):
    lengths = [0, 1, 3, 4, 5, 6, 7, 8, 9, 16, 31, 0]
    seen = {document: [] for document in range(len(lengths))}
    for document, start, length in cut_documents(lengths, size, overlap):
        assert 0 < length <= size
        first = start == 0
        seen[document] += range(start + (0 if first else overlap), start + length)
        assert first or length > overlap  # a piece that reads nothing new is none
    assert seen == {document: list(range(length)) for document, length in enumerate(lengths)}


def test_rows_are_filled_in_order_with_whole_pieces():
    pieces = [(0, 0, 5), (1, 0, 3), (2, 0, 1), (3, 0, 8), (4, 0, 2)]
    rows = list(fill_rows(iter(pieces), 8))
    assert rows == [pieces[:2], pieces[2:3], pieces[3:4], pieces[4:]]
    assert list(fill_rows(iter([]), 8)) == []


def test_rows_hold_the_documents_with_positions_that_restart():
    documents = [list(range(10, 13)), [], [7], list(range(20, 31))]
    rows = WholeDocuments(dataset(documents), 6, 1)
    assert len(rows) == 3
    assert [rows[index]["input_ids"].tolist() for index in range(3)] == [
        [10, 11, 12, 7],
        [20, 21, 22, 23, 24, 25],
        [25, 26, 27, 28, 29, 30],
    ]
    assert rows[0]["position_ids"].tolist() == [0, 1, 2, 0] and rows[2]["position_ids"].tolist() == list(range(6))
    assert rows[1]["place"] == (0, 1) and rows[1]["input_ids"].dtype == np.int64


def test_no_tokens_are_one_sentence():
    with pytest.raises(InputError, match="hold no tokens"):
        WholeDocuments(dataset([[], []]), 6)

"""The correlations of a model's cosines with people's ratings are those of its vectors, subset by subset."""

import json

import pytest
from scipy.stats import pearsonr
from transformers import AutoModel

from benchmarks import results, similarity
from tests.training.finetuned import write_base
from trivium.tokenization import train_tokenizer
from trivium.training.finetune import load_config, load_tokenizer, positions_of
from trivium.training.tasks.embedding import TextEmbedding
from trivium.training.tasks.task import Form

TEXTS = "the cat sat|a dog ran|two birds flew|rain fell again|nobody came|all is well".split("|")


@pytest.mark.parametrize("family", ["encoder", "decoder"])
def test_correlations_are_those_of_cosines(family, tmp_path):
    base = write_base(tmp_path / family, family, train_tokenizer(TEXTS, family, vocab_size=300, show_progress=False))
    rows = [
        {"text": one, "text_pair": other, "score": float(place**2 % 7), "subset": subset}
        for subset in ("lee", "simlex-999")
        for place, (one, other) in enumerate(zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True))
    ]
    folder = tmp_path / "similarity"
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    similarity.main(["--models", str(base), "--data", str(folder), "--output", str(tmp_path / "out")])
    result = json.loads((tmp_path / "out" / "compare.json").read_text())
    (row,) = result["rows"]
    task = TextEmbedding(load_tokenizer(str(base)), family, Form(), positions_of(load_config(str(base))))
    model = AutoModel.from_pretrained(base).eval()
    vectors = [task.embed(model, [text], 1)[0] for text in TEXTS]
    cosines = [float(one @ other) for one, other in zip(vectors, vectors[1:] + vectors[:1], strict=True)]
    expected = pearsonr(cosines, [row["score"] for row in rows[: len(TEXTS)]]).statistic
    assert row["mean"]["lee pearson"] == row["mean"]["simlex-999 pearson"] == pytest.approx(expected, abs=1e-5)
    assert results.Comparison.read(tmp_path / "out" / "compare.json").data == "similarity"

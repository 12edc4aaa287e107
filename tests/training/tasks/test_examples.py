"""Examples are read as they stand, and each that cannot be used is told with its file and line."""

import json

import datasets
import pytest

from trivium.configuration.errors import InputError
from trivium.training.tasks.examples import Examples, Unusable, hold_out, read_splits
from trivium.training.tasks.table import TASKS, roles_of
from trivium.training.tasks.task import Form

ROLES = {"text": True, "label": True}
SKIP = ", or leave out what cannot be used with --skip_bad true."


def write(folder, **files):
    """Files by name, `_` for the dot of the suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / ".".join(name.rsplit("_", 1))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def rows_of(examples):
    return [tuple(row.values()) for row in examples]


@pytest.mark.parametrize(
    "name, content",
    [
        ("jsonl", '{"text": "a", "label": "NA"}\n\n{"text": "b, c", "label": "None"}\n'),
        ("json", '[{"text": "a", "label": "NA"},\n {"text": "b, c", "label": "None"}]'),
        ("json", '{"text": "a", "label": "NA"}\n{"text": "b, c", "label": "None"}'),
        ("csv", 'text,label\na,NA\n"b, c",None\n'),
        ("tsv", "text\tlabel\na\tNA\n\nb, c\tNone\n"),
        ("csv", '\ufeffother,label,text\r\n1,NA,a\r\n2,None,"b, c"\r\n'),
    ],
)
def test_a_file_of_any_kind_has_the_same_examples(tmp_path, name, content):
    path = write(tmp_path, **{f"x_{name}": content}) / f"x.{name}"
    found = read_splits([str(path)], ROLES, {})
    assert list(found) == ["train"]
    assert rows_of(found["train"]) == [("a", "NA"), ("b, c", "None")]


def test_parquet_keeps_the_names_of_labels(tmp_path):
    feature = datasets.ClassLabel(names=["z", "a"])
    table = datasets.Dataset.from_dict(
        {"sentence": ["a", "b"], "label": [0, 1], "other": [1, 2]},
        datasets.Features(sentence=datasets.Value("string"), label=feature, other=datasets.Value("int64")),
    )
    for part in "12":
        table.to_parquet(tmp_path / f"test-{part}.parquet")
    found = read_splits([str(tmp_path)], ROLES, {"text": "sentence"})["test"]
    assert found.rows.features["label"].names == ["z", "a"] and len(found) == 4
    assert found.place(3) == f"'{tmp_path}/test-2.parquet', row 2"


def test_splits_are_told_by_the_names_of_files(tmp_path):
    line = '{{"text": "{0}", "label": 1}}\n'
    names = ["train-1_jsonl", "train-2_jsonl", "dev_csv", "test_JSONL", "trained_jsonl", "readme_md"]
    contents = [line.format(name) for name in names]
    contents[2] = "text,label\ndev,1\n"
    write(tmp_path, **dict(zip(names, contents, strict=True)))
    found = read_splits([str(tmp_path)], ROLES, {})
    assert {split: [row["text"] for row in part] for split, part in found.items()} == {
        "train": ["train-1_jsonl", "train-2_jsonl"],
        "validation": ["dev"],
        "test": ["test_JSONL"],
    }


def test_globs_name_files_to_train_on(tmp_path):
    write(tmp_path, a_csv="text,label\na,1\n", b_csv="text,label\nb,2\n", c_jsonl="{}\n")
    found = read_splits([f"{tmp_path}/*.csv"], ROLES, {})["train"]
    assert rows_of(found) == [("a", "1"), ("b", "2")]


def test_columns_have_other_names_and_what_has_no_role_is_not_read(tmp_path):
    lines = '{"text": 1, "sentence": "a", "y": 0}\n{"text": [], "sentence": "b", "y": 1.5}\n'
    path = write(tmp_path, x_jsonl=lines) / "x.jsonl"
    found = read_splits([str(path)], ROLES | {"text_pair": False}, {"text": "sentence", "label": "y"})["train"]
    assert list(found) == [{"text": "a", "label": 0.0}, {"text": "b", "label": 1.5}]


def test_a_column_is_of_one_type_however_late_that_shows(tmp_path):
    lines = ['{"text": "a", "label": 1, "many": []}\n'] * 2500 + ['{"text": "a", "label": 0.5, "many": ["b"]}\n']
    path = write(tmp_path, x_jsonl="".join(lines)) / "x.jsonl"
    found = read_splits([str(path)], ROLES | {"many": True}, {})["train"]
    assert found.rows[0] == {"text": "a", "label": 1.0, "many": []}
    assert found.rows[2500] == {"text": "a", "label": 0.5, "many": ["b"]}


def test_a_file_that_was_edited_is_read_again(tmp_path):
    for text in ("a", "longer"):
        path = write(tmp_path, x_csv=f"text,label\n{text},1\n") / "x.csv"
        assert rows_of(read_splits([str(path)], ROLES, {})["train"]) == [(text, "1")]


def test_places_are_lines_of_the_file(tmp_path):
    jsonl = '\n{"text": "a", "label": 1}\n  \n\n{"text": "b\\nc", "label": 1}\n{"text": "d", "label": 1}'
    table = 'text,label\n\n"a\nb",1\nc,1\n\n"d ""\n\n",1\ne,1\n'
    write(tmp_path, a_jsonl=jsonl, b_csv=table, c_json='[{"text": "f", "label": 1}]')
    paths = [str(tmp_path / name) for name in ("a.jsonl", "c.json")]
    found = read_splits(paths, ROLES, {})["train"]
    lines = [f"'{tmp_path}/a.jsonl', line {line}" for line in (2, 5, 6)]
    assert [found.place(number) for number in range(4)] == [*lines, f"'{tmp_path}/c.json', row 1"]
    found = read_splits([str(tmp_path / "b.csv")] * 2, ROLES, {})["train"]
    lines = [f"'{tmp_path}/b.csv', line {line}" for line in (3, 5, 7, 10)]
    assert [found.place(number) for number in range(8)] == lines * 2


# What is in the file x of some kind, and the whole sentence about it.
BROKEN = {
    "no-json": (
        "jsonl",
        '{"text": "a", "label": 1}\n\n{"text"}\n',
        "{x}, line 3: this is no JSON (Expecting ':' delimiter: line 1 column 8 (char 7)); mend it.",
    ),
    "no-object": ("jsonl", "\n[1]\n", "{x}, line 2: this is no object with columns; mend it."),
    "not-utf8": (
        "jsonl",
        b'{"text": "a", "label": 1}\n{"text": "\xe9"}\n',
        "{x}, line 2: its byte 0xE9 is not UTF-8; convert the file to UTF-8, for example with iconv.",
    ),
    "not-utf8-csv": (
        "csv",
        b'text,label\n"a\n\xe9",1\n',
        "{x}, line 2: its byte 0xE9 is not UTF-8; convert the file to UTF-8, for example with iconv.",
    ),
    "not-utf8-json": (
        "json",
        b'[{"text": "\xe9"}]',
        "{x}: its byte 0xE9 is not UTF-8; convert the file to UTF-8, for example with iconv.",
    ),
    "half-a-character": (
        "jsonl",
        '{"text": "\\ud800", "label": 1}\n',
        "{x}, line 1: 'text' has half of a surrogate pair, which is no character; mend it.",
    ),
    "mixed": (
        "jsonl",
        '{"text": "a", "label": 1}\n{"text": "b", "label": "one"}\n',
        "{x}, line 2: 'label' holds 'one', where the examples before it hold numbers; give the same kind everywhere.",
    ),
    "mixed-late": (
        "jsonl",
        '{"text": "a", "label": 1}\n' * 1500 + '{"text": ["b"], "label": 1}\n',
        "{x}, line 1501: 'text' holds ['b'], where the examples before it hold text; give the same kind everywhere.",
    ),
    "mixed-list": (
        "json",
        '[{"text": ["a"], "label": 1}, {"text": "b"}]',
        "{x}, row 2: 'text' holds 'b', where the examples before it hold lists; give the same kind everywhere.",
    ),
    "too-large": (
        "jsonl",
        '{"text": "a", "label": 99999999999999999999}\n',
        "{x}, line 1: 'label' holds 99999999999999999999, which no column can hold (Python int too large to convert "
        "to C long); mend it.",
    ),
    "array-no-json": (
        "json",
        '[{"text": "a"},\n {"text" "b"}]',
        "{x}, line 2: this is no JSON (Expecting ':' delimiter); mend it.",
    ),
    "array-no-object": ("json", '[{"text": "a"}, 3]', "{x}, row 2: this is no object with columns; mend it."),
    "fields": ("csv", 'text,label\n"a\n",1\nb\n', "{x}, line 4: here are 1 fields, but the header has 2; mend it."),
    "quotes": ("csv", 'text,label\na,1\n"b" c,1\n', "{x}, line 3: this is no CSV (',' expected after '\"'); mend it."),
    "no-column": (
        "csv",
        "sentence,label\na,1\n",
        "{x} has no column 'text' (it has sentence, label): say by `columns` which of them is the text.",
    ),
    "no-column-json": (
        "jsonl",
        '{"sentence": "a"}\n',
        "{x} has no column 'text' (it has sentence): say by `columns` which of them is the text.",
    ),
    "empty": ("jsonl", "", "{x} is empty: give a file with examples."),
    "header-only": ("csv", "text,label\n", "{x} holds no example: give a file that does."),
    "no-parquet": (
        "parquet",
        "PAR?",
        "{x} cannot be read: Parquet file size is 4 bytes, smaller than the minimum file footer (8 bytes).",
    ),
    "unknown-kind": ("xlsx", "text", "{x} is of no known kind: give .jsonl, .json, .csv, .tsv, .parquet, .arrow."),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_cannot_be_read_is_told_in_one_sentence(tmp_path, case):
    suffix, content, sentence = BROKEN[case]
    path = write(tmp_path, **{f"x_{suffix}": content}) / f"x.{suffix}"
    with pytest.raises(InputError) as caught:
        read_splits([str(path)], ROLES, {})
    assert str(caught.value) == sentence.replace("{x}", f"'{path}'")


def test_files_that_do_not_agree_are_told(tmp_path):
    write(tmp_path, a_jsonl='{"text": "a", "label": 1}\n', b_jsonl='{"text": "b", "label": "x"}\n')
    paths = [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]
    with pytest.raises(
        InputError, match=r"^'.*a.jsonl', '.*b.jsonl' do not agree \(.*label.*\): give files of the same"
    ):
        read_splits(paths, ROLES, {})


@pytest.mark.parametrize(
    "data, sentence",
    [
        (["{x}/nothing.jsonl"], "'{x}/nothing.jsonl' does not exist."),
        (["{x}/*.csv"], "'{x}/*.csv' does not exist."),
        (["{x}/none/at/all"], "'{x}/none/at/all' does not exist."),
        (["{x}"], "'{x}' holds no data: put a train.jsonl into it (or .csv, .parquet), and a test.jsonl."),
        (["{x}/a.jsonl", "{x}"], "'{x}' is a folder: give it alone, or the files in it, for example '{x}/*.jsonl'."),
    ],
)
def test_data_that_is_not_there_is_told(tmp_path, data, sentence):
    write(tmp_path, a_jsonl="{}\n")
    with pytest.raises(InputError) as caught:
        read_splits([name.replace("{x}", str(tmp_path)) for name in data], ROLES, {})
    assert str(caught.value) == sentence.replace("{x}", str(tmp_path))


def test_a_dataset_of_the_hub_that_is_not_there_is_told():
    with pytest.raises(InputError, match=r"^'nobody/nothing-at-all' cannot be read: [^\n]*\.$"):
        read_splits(["nobody/nothing-at-all"], ROLES, {})


@pytest.mark.parametrize(
    "columns, sentence",
    [
        ({"txt": "a"}, "`columns` maps 'txt', which this task does not read: it reads text, label."),
        ({"text": "label"}, "`columns` gives one column to two roles: name one for each."),
    ],
)
def test_columns_that_make_no_sense_are_told(tmp_path, columns, sentence):
    with pytest.raises(InputError) as caught:
        read_splits([str(tmp_path)], ROLES, columns)
    assert str(caught.value) == sentence


# Of each task what is good, what is not, and what is said of the latter.
GOOD = {
    "text-classification": [{"text": "a", "label": 0}, {"text": "b", "label": 1}],
    "multi-label-classification": [{"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["y", "x"]}],
    "regression": [{"text": "a", "score": 0.5}],
    "token-classification": [{"tokens": ["a", "b"], "tags": ["B-X", "O"]}],
    "question-answering": [
        {"id": "1", "question": "q", "context": "a b", "answers": {"text": ["b"], "answer_start": [2]}}
    ],
    "multiple-choice": [{"text": "a", "choices": ["b", "c"], "label": 1}],
    "text-embedding": [{"text": "a", "positive": "b"}],
    "text-to-text": [{"source": "a", "target": "b"}],
    "instruction-following": [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}],
}
BAD = [
    ("text-classification", {"label": 2}, "the label is 2, and those to train on are 0, 1; mend it"),
    ("text-classification", {"label": None}, "the label is None, and those to train on are 0, 1; mend it"),
    ("text-classification", {"text": "  "}, "the text is empty; mend it"),
    ("text-classification", {"text": None}, "the text is empty; mend it"),
    ("multi-label-classification", {"labels": ["z"]}, "the label is 'z', and those to train on are x, y; mend it"),
    ("multi-label-classification", {"labels": None}, "`labels` is None, no list; mend it"),
    (
        "multi-label-classification",
        {"labels": ["x", "y", "x"]},
        "`labels` names 'x' twice; name each label that a text has once",
    ),
    ("regression", {"score": float("nan")}, "the score is nan, no number to learn; mend it"),
    ("regression", {"score": float("-inf")}, "the score is -inf, no number to learn; mend it"),
    ("regression", {"score": 1e39}, "the score is 1e+39, no number to learn; mend it"),
    ("regression", {"score": None}, "the score is None, no number to learn; mend it"),
    ("token-classification", {"tags": ["B-X"]}, "there are 2 tokens but 1 tags; give one for each"),
    ("token-classification", {"tags": ["I-Y", "O"]}, "the tag is 'I-Y', and those to train on are B-X, O; mend it"),
    ("token-classification", {"tokens": []}, "`tokens` holds no word; mend it"),
    (
        "question-answering",
        {"answers": {"text": ["a"], "answer_start": [1]}},
        "the answer 'a' is not at character 1 of the context; mend `answer_start`",
    ),
    ("question-answering", {"id": "1"}, "its id '1' is also that of '{x}', line 1; give each its own"),
    (
        "question-answering",
        {"question": "why " * 600},
        "the question has 1801 tokens or more, and beside the context there is room for 444; shorten it, raise "
        "max_length, or lower stride",
    ),
    ("multiple-choice", {"label": 2}, "the label is 2, but the choices are 0 to 1; mend it"),
    ("multiple-choice", {"choices": ["b"]}, "`choices` holds no list of two texts or more; mend it"),
    ("multiple-choice", {"choices": ["b", "c", "d"]}, "there are 3 choices, but 2 elsewhere; give as many everywhere"),
    ("multiple-choice", {"choices": ["b", ""]}, "choice 1 is '', no text; mend it"),
    ("text-embedding", {"positive": "a"}, "the text and its partner are the same; leave it out"),
    ("text-embedding", {"positive": ""}, "the partner is empty; mend it"),
    ("text-to-text", {"target": None}, "the target is empty; mend it"),
    (
        "instruction-following",
        {"messages": [{"role": "user", "content": "a"}]},
        "the last message is not the assistant's, or empty; end with what is to be learnt",
    ),
    (
        "instruction-following",
        {"messages": [{"role": "assistant", "content": "a"}]},
        "`messages` has nothing before what the assistant says; begin with what is asked",
    ),
    (
        "instruction-following",
        {"messages": [{"role": "user", "content": None}]},
        "`messages` holds no list of `role` and `content`; mend it",
    ),
    (
        "instruction-following",
        {"messages": [{"role": "robot", "content": "a"}, {"role": "assistant", "content": "b"}]},
        "the chat template does not take `messages` (A message's role must be system, user or assistant, not robot); "
        "mend it",
    ),
]


@pytest.mark.parametrize("name, change, finding", BAD)
def test_an_example_that_cannot_be_used_is_told_with_its_line(tmp_path, tokenizers, name, change, finding):
    kind = TASKS[name]
    family = next(iter(kind.heads))
    task = kind(tokenizers[family], family, Form())
    good = GOOD[name]
    bad = good[0] | {"id": "2"} | change
    write(tmp_path, train_jsonl="".join(json.dumps(row) + "\n" for row in good))
    write(tmp_path, test_jsonl="".join(json.dumps(row) + "\n\n" for row in (*good, bad)))
    splits = read_splits([str(tmp_path)], roles_of(kind), {})
    task.learn(splits["train"])
    splits["train"].checked(task.check, False)
    path = f"{tmp_path}/test.jsonl"
    with pytest.raises(InputError) as caught:
        splits["test"].checked(task.check, False)
    said = finding.replace("{x}", path)
    assert str(caught.value) == f"'{path}', line {2 * len(good) + 1}: {said}{SKIP}"
    kept, left_out = splits["test"].checked(task.check, True)
    assert left_out == 1 and len(kept) == len(good)


def test_examples_of_which_none_can_be_used_are_told():
    def check(row):
        raise Unusable("no")

    examples = Examples(datasets.Dataset.from_dict({"text": ["a"]}), "some")
    with pytest.raises(InputError) as caught:
        examples.checked(check, True)
    assert str(caught.value) == "'some' holds no example that can be used: mend them, or give others."


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_texts_that_are_equal_are_held_out_together(fraction):
    texts = [f"text {number % 300}" for number in range(900)]
    examples = Examples(datasets.Dataset.from_dict({"text": texts, "label": range(900)}), "some")
    kept, held = hold_out(examples, fraction, ["text"])
    sides = [[row["text"] for row in side] for side in (kept, held)]
    assert not {*sides[0]} & {*sides[1]} and sorted(sides[0] + sides[1]) == sorted(texts)
    assert abs(len(held) / 900 - fraction) < 0.06
    assert [row["label"] for row in hold_out(examples, fraction, ["text"])[1]] == [row["label"] for row in held]


def test_of_few_examples_one_is_held_out_and_of_equal_ones_none_can_be():
    def examples(texts):
        return Examples(datasets.Dataset.from_dict({"text": texts}), "some")

    assert [len(side) for side in hold_out(examples(["a", "b"]), 1e-9, ["text"])] == [1, 1]
    with pytest.raises(
        InputError, match=r"^'some' has too few examples to hold some out: name some to measure on with"
    ):
        hold_out(examples(["a", "a"]), 0.1, ["text"])


LINE = '{"text": "a", "label": "x"}\n'
LATIN = b'{"text": "\xff", "label": "x"}\n'


@pytest.mark.parametrize(
    "name, content, unreadable, last",
    [
        ("jsonl", (LINE + '{"text": \n[1]\n3\n' + LINE).encode() + LATIN + LINE.encode(), 4, "line 7"),
        ("json", f"[{LINE}, 3, {LINE}, [], {LINE}]", 2, "row 5"),
        ("csv", 'text,label\na,x\nb\n"c"d,x\ne,x,y\na,x\na,x\n', 3, "line 7"),
        ("csv", b"text,label\na,x\n\xff,x\na,x\n\xe9,x\na,x\n", 2, "line 6"),
        ("csv", 'text,label\na,x\na,x\na,x\n"open,x\nb,x\n', 1, "line 4"),
        ("tsv", "text\tlabel\na\tx\na\tx\na\na\tx\n", 1, "line 5"),
    ],
)
def test_lines_that_cannot_be_read_are_left_out_and_counted(tmp_path, name, content, unreadable, last):
    path = write(tmp_path, **{f"x_{name}": content}) / f"x.{name}"
    with pytest.raises(InputError, match=r"x\.\w+', (line|row) \d"):
        read_splits([str(path)], ROLES, {})
    found = read_splits([str(path)], ROLES, {}, skip_bad=True)["train"]
    assert rows_of(found) == [("a", "x")] * 3 and found.place(2).endswith(last)
    examples, left_out = found.checked(lambda row: None, skip_bad=True)
    assert (len(examples), left_out) == (3, unreadable)


@pytest.mark.parametrize("name, content", [("jsonl", "{\n[]\n"), ("csv", b"te\xffxt,label\na,b\n"), ("json", "[{]")])
def test_where_nothing_can_be_read_the_file_is_refused_either_way(tmp_path, name, content):
    path = write(tmp_path, **{f"x_{name}": content}) / f"x.{name}"
    with pytest.raises(InputError):
        read_splits([str(path)], ROLES, {}, skip_bad=True)

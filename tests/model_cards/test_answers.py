import pytest
import yaml

from trivium.configuration import InputError
from trivium.model_cards.answers import ANSWERS, QUESTIONS, as_yaml, check_answers, kept_answers, read_answers


def test_every_example_is_an_answer():
    given = {name: [question.example] if question.many else question.example for name, question in QUESTIONS.items()}
    assert check_answers(given) == given


def test_answers_are_written_and_read_again(tmp_path):
    given = {
        "license": "mit",
        "language": ["en", "de"],
        "intended_use": "Öl: 1\n\n- two\n# three",
        "tags": ["a: b", "#c"],
    }
    (tmp_path / ANSWERS).write_text(as_yaml(given), encoding="utf-8")
    assert read_answers(tmp_path / ANSWERS) == kept_answers(tmp_path) == given


def test_one_language_may_stand_alone_and_what_is_empty_is_no_answer():
    assert check_answers({"language": "en", "license": None, "biases": " ", "tags": []}) == {"language": ["en"]}


def test_the_answers_of_a_run_hold_for_its_checkpoints(tmp_path):
    step = tmp_path / "run" / "checkpoint-6"
    step.mkdir(parents=True)
    (tmp_path / "run" / ANSWERS).write_text("license: mit\ncontact: me\n")
    (step / ANSWERS).write_text("contact: you\n")
    assert kept_answers(step) == {"license": "mit", "contact": "you"}
    assert kept_answers(tmp_path / "run") == {"license": "mit", "contact": "me"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("licence: mit", "there is no field 'licence'; did you mean 'license'?"),
        ("license: MIT", "did you mean 'mit'?"),
        ("license: [mit, apache-2.0]", "`license` takes one answer, not 2"),
        ("language: {en: 1}", "`language` is not understood"),
        ("intended_use: true", "`intended_use` is not understood"),
        ("base_model: ../x", "is no name on the Hub"),
        ("- a", "must map fields"),
        ("a: [", "is not YAML"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
    ],
)
def test_a_wrong_answer_gets_one_sentence(text, said, tmp_path):
    (tmp_path / ANSWERS).write_text(text)
    with pytest.raises(InputError) as caught:
        read_answers(tmp_path / ANSWERS)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_asked_for_must_be_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_answers(tmp_path / "gone.yaml")
    assert kept_answers(tmp_path) == {}


def test_what_is_written_is_yaml_whatever_it_says():
    assert yaml.safe_load(as_yaml({"contact": "\n---\nlicense: mit\n...\n"})) == {
        "contact": "\n---\nlicense: mit\n...\n"
    }

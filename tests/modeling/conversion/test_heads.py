"""Heads come, go and stay: what is new is drawn and named, what is left out is named, the stack below is the same."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests.references import CASES, REFERENCES, case_id
from trivium import InputError, from_transformers, modeling, to_transformers
from trivium.modeling.conversion import ORIGINS, convert, largest_difference

# Their decoders made of encoders are another configuration, not another head.
OTHERS = ("BertLMHeadModel", "RobertaForCausalLM")
FIRST = {reference.model_type: reference for reference in reversed(REFERENCES.values()) if reference.classes is None}


def base_of(reference) -> str:
    return next(iter(ORIGINS[reference.model_type].heads))


HEADED = [
    (reference, name)
    for reference in FIRST.values()
    for name in ORIGINS[reference.model_type].heads
    if name not in (base_of(reference), *OTHERS)
]
# T5's class that labels tokens has the encoder only: no base model can be made of it.
WHOLE = [(reference, name) for reference, name in HEADED if name != "T5ForTokenClassification"]


def stack_of(model) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in model.base_model.state_dict().items() if not key.startswith("pooler.")}


def lacks_decoder(model) -> bool:
    return model.config.is_encoder_decoder and model.get_decoder() is None


def assert_same_stack(found, expected) -> None:
    ours, theirs = stack_of(found), stack_of(expected)
    if lacks_decoder(found):
        theirs = {key: tensor for key, tensor in theirs.items() if not key.startswith("decoder.")}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def names_in(model, keys) -> set[str]:
    """`keys` without the prefix of the stack of `model`, and without what is computed."""
    return {key.removeprefix(f"{model.base_model_prefix}.") for key in keys if "embed_positions" not in key}


def not_tied(model, keys) -> set[str]:
    """Names of weights of `model` that are not in `keys`, nor tied to one that is."""
    state = {name: tensor for key, tensor in model.state_dict().items() for name in names_in(model, [key])}
    shared = {state[key].data_ptr() for key in keys & state.keys()}
    return {key for key, tensor in state.items() if key not in keys and tensor.data_ptr() not in shared}


@pytest.mark.parametrize(("reference", "name"), HEADED, ids=case_id)
def test_a_head_that_the_source_lacks_is_new(reference, name, tmp_path):
    base, headed = reference.model(base_of(reference)), reference.model(name, seed=1)
    base.save_pretrained(tmp_path)
    wanted = ORIGINS[reference.model_type].heads[name]
    has = names_in(base, base.state_dict())
    for source in (tmp_path, base):
        ours, report = convert(source, wanted)
        assert type(ours) is wanted
        assert_same_stack(ours, from_transformers(base))
        assert names_in(headed, report.new) == not_tied(headed, has) - {"final_logits_bias"}  # zeros if there is none
        left = {
            key for key in has if lacks_decoder(ours) and key.startswith("decoder.")
        }  # transformers does not tell of it
        assert set(report.dropped) == has - names_in(headed, headed.state_dict()) - left
        assert report.notes == []
        assert all(torch.isfinite(parameter).all() for parameter in ours.parameters())
    back = to_transformers(ours)
    assert type(back).__name__ == name
    assert largest_difference(ours, back) < 1e-5


@pytest.mark.parametrize(("reference", "name"), WHOLE, ids=case_id)
def test_a_head_that_is_not_asked_for_is_left_out(reference, name, tmp_path):
    headed, base = reference.model(name), reference.model(base_of(reference))
    headed.save_pretrained(tmp_path)
    wanted = ORIGINS[reference.model_type].heads[base_of(reference)]
    has = names_in(headed, load_file(tmp_path / "model.safetensors"))
    for source in (tmp_path, headed):
        ours, report = convert(source, wanted)
        assert type(ours) is wanted
        assert_same_stack(ours, from_transformers(headed))
        assert set(report.dropped) == has - names_in(base, base.state_dict())
        assert set(report.new) == not_tied(base, has)
        assert all(key.startswith("pooler.") for key in report.new)
        assert report.source == f"{name} ({reference.model_type})"


@pytest.mark.parametrize("name", ["BertForMaskedLM", "RobertaForMaskedLM", "LlamaModel", "BartModel"])
def test_heads_that_lie_in_the_same_file_are_left_out(name, tmp_path):
    """As in the first checkpoint of BERT, which is a BertForMaskedLM with a pooler and a classifier of pairs."""
    reference = next(reference for reference, other in CASES if other == name)
    theirs = reference.model(name)
    theirs.save_pretrained(tmp_path)
    prefix = f"{theirs.base_model_prefix}."
    beside = {
        "bert": (f"{prefix}pooler.dense.weight", "cls.seq_relationship.weight", "cls.seq_relationship.bias"),
        "roberta": (f"{prefix}pooler.dense.bias", f"{prefix}pooler.dense.weight"),
        "llama": ("lm_head.weight", "score.weight"),
        "bart": ("classification_head.dense.weight", "qa_outputs.bias"),
    }[reference.model_type]
    weights = load_file(tmp_path / "model.safetensors")
    save_file(weights | {key: torch.ones(2, 2) for key in beside}, tmp_path / "model.safetensors", {"format": "pt"})
    ours, report = convert(tmp_path)
    assert report.dropped == sorted(beside) and report.new == []
    expected = from_transformers(theirs).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.state_dict().items())


def labelled(name: str, **fields):
    reference = next(reference for reference, other in CASES if other == name)
    config = reference.config(name)
    for key, value in fields.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    return getattr(transformers, name)(config).eval()


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("BertForSequenceClassification", "single_label_classification"),
        ("GPT2ForSequenceClassification", "multi_label_classification"),
        ("BartForSequenceClassification", "regression"),
        ("BertForTokenClassification", None),
    ],
)
def test_labels_and_their_names_come_along(name, problem, tmp_path):
    names = {0: "no", 1: "perhaps", 2: "yes"}
    labels = dict(id2label=names, label2id={label: number for number, label in names.items()}, problem_type=problem)
    theirs = labelled(name, **labels)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = from_transformers(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    ours = type(ours).from_pretrained(tmp_path / "ours")
    for config in (ours.config, to_transformers(ours).config):
        assert {key: getattr(config, key) for key in labels} == labels
        assert config.num_labels == 3
    ids = torch.tensor([[5, 6, 7, 2], [8, 9, 10, 2]])
    wanted = {
        "single_label_classification": torch.tensor([0, 2]),
        "multi_label_classification": torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]),
        "regression": torch.tensor([[0.1, 0.2, 0.3], [-1.0, 0.0, 1.0]]),
        None: torch.tensor([[0, 1, 2, -100], [2, 1, 0, 0]]),
    }[problem]
    losses = [model.eval()(input_ids=ids, labels=wanted).loss.item() for model in (theirs, ours)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_number_of_labels_of_a_new_head_can_be_chosen(tmp_path):
    REFERENCES["bert"].model("BertModel").save_pretrained(tmp_path)
    ours = from_transformers(tmp_path, modeling.TriviumEncoderForSequenceClassification, num_labels=5)
    assert ours.config.num_labels == ours.score.out_features == 5


def test_a_head_of_another_size_is_new_only_where_that_is_allowed(tmp_path):
    REFERENCES["bert"].model("BertForSequenceClassification").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has in another shape classifier"):
        from_transformers(tmp_path, num_labels=5)
    ours, report = convert(tmp_path, num_labels=5, ignore_mismatched_sizes=True)
    assert report.new == ["classifier.bias", "classifier.weight"]
    assert ours.score.out_features == 5


def test_what_is_new_or_left_out_is_logged(tmp_path, caplog):
    REFERENCES["bert"].model("BertModel").save_pretrained(tmp_path)
    transformers.utils.logging.enable_propagation()
    try:
        from_transformers(tmp_path, modeling.TriviumEncoderForQuestionAnswering)
    finally:
        transformers.utils.logging.disable_propagation()
    assert [record.getMessage() for record in caplog.records] == [
        "BertModel (bert): new, drawn at random, to be trained: qa_outputs.bias, qa_outputs.weight.",
        "BertModel (bert): left out, since the model has no place for it: pooler.dense.bias, pooler.dense.weight.",
    ]

"""Fields are overridden where weights stay what they are, told apart when a run goes on, and kept in the checkpoint."""

import pytest

from tests.families import TRAINED_HEADS, make_config, make_model
from tests.training.finetuned import finetune, write_base, write_data
from trivium.configuration import InputError
from trivium.training.finetune_arguments import FinetuneArguments
from trivium.training.overriding import override
from trivium.training.predict import load_task

DROPOUTS = dict(hidden_dropout=0.3, attention_dropout=0.2, classifier_dropout=0.1, norm_eps=1e-3)
AUTO = "AutoModelForSequenceClassification"


@pytest.mark.parametrize("head", TRAINED_HEADS, ids=str)
def test_what_has_no_weights_is_overridden_for_every_head_and_all_else_stays(head):
    model = make_model(head, num_labels=5)
    (auto, *_) = [auto for auto, name in model.config.auto_classes.items() if name == type(model).__name__]
    before = model.config.to_dict()
    after = override(model.config, DROPOUTS, auto).to_dict()
    sides = ("encoder", "decoder") if head.family == "encoder_decoder" else ()
    for side in sides:
        assert after.pop(side) == before.pop(side) | DROPOUTS
    assert after == before | ({} if sides else DROPOUTS)


def test_of_two_sides_either_has_its_own():
    config = make_config("encoder_decoder")
    changed = override(config, {"hidden_dropout": 0.3, "decoder": {"hidden_dropout": 0.1}}, AUTO)
    assert (changed.encoder.hidden_dropout, changed.decoder.hidden_dropout) == (0.3, 0.1)
    assert config.encoder.hidden_dropout == config.decoder.hidden_dropout == 0


def test_without_overrides_nothing_is_made():
    config = make_config("encoder")
    assert override(config, {}, AUTO) is config


@pytest.mark.parametrize(
    "family, auto, overrides, said",
    [
        ("encoder", AUTO, {"hiden_dropout": 0}, "has no field `hiden_dropout`: did you mean `hidden_dropout`?"),
        ("encoder_decoder", AUTO, {"decoder": {"atention_dropout": 0}}, "did you mean `attention_dropout`?"),
        (
            "encoder_decoder",
            AUTO,
            {"encoder": 3},
            "`config_overrides.encoder` must map fields of the encoder to values",
        ),
        ("decoder", AUTO, {"hidden_dropout": "much"}, "`hidden_dropout` must be"),
        ("decoder", AUTO, {"num_labels": 3}, "`config_overrides` holds `num_labels`, which the task sets"),
        ("encoder", AUTO, {"intermediate_size": 64}, "('model.layers.0.mlp.gate_proj.weight' is (48, 32), and would"),
        ("encoder", AUTO, {"num_hidden_layers": 3, "layer_types": None}, "is absent, and would be"),
        ("encoder", AUTO, {"pooler": True}, "is absent, and would be (32, 32)"),
        ("decoder", "AutoModelForCausalLM", {"tie_word_embeddings": False}, "is absent, and would be (96, 32)"),
        ("encoder_decoder", AUTO, {"encoder": {"qk_norm": False}}, "and would be absent)"),
    ],
)
def test_what_does_not_fit_is_one_sentence(family, auto, overrides, said):
    with pytest.raises(InputError) as caught:
        override(make_config(family), overrides, auto)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_new_head_may_be_another():
    assert override(make_config("encoder"), {"classifier_act": "tanh"}, AUTO).classifier_act == "tanh"


def test_an_adapter_alone_is_of_the_model_as_it_was():
    fields = dict(task="regression", data=["x"], lora=True, merge=False)
    FinetuneArguments(**fields, config_overrides={"hidden_dropout": 0, "decoder": {"attention_dropout": 0}})
    for overrides in ({"norm_eps": 1e-3}, {"encoder": {"norm_eps": 1e-3}}):
        with pytest.raises(InputError, match="an adapter alone does not keep `config_overrides`"):
            FinetuneArguments(**fields, config_overrides=overrides)


@pytest.mark.parametrize("from_scratch", [False, True])
def test_a_run_uses_them_keeps_them_and_does_not_go_on_with_others(from_scratch, tokenizers, tmp_path):
    base = write_base(tmp_path / "base", "encoder", tokenizers["encoder"])
    data = write_data(tmp_path / "data", "text-classification")

    def run(**overrides):
        more = {"config_overrides": overrides} if overrides else {}
        where = tmp_path / "model"
        return finetune("text-classification", base, data, where, from_scratch=from_scratch, **more).metrics

    metrics = run(hidden_dropout=0.5)
    task, model = load_task(str(tmp_path / "model"))
    assert model.config.hidden_dropout == 0.5 and len(task.labels) == model.config.num_labels == 3
    assert run(hidden_dropout=0.5) == metrics
    for others in ({}, {"hidden_dropout": 0.1}):
        with pytest.raises(InputError, match="config_overrides"):
            run(**others)

"""Adapters go where they should by default, for every head; they train, come back and merge to the same."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.families import HEADS, TRAINED_HEADS, distance, draw_texts, main_outputs, make_model, padded
from trivium.configuration import InputError
from trivium.configuration.adapters import LORA_TARGETS
from trivium.training.lora import add_adapter

KINDS = {"lora": {}, "dora": {"use_dora": True}, "rank-stabilised": {"use_rslora": True}}


def auto_of(model) -> str:
    return next(auto for auto, name in model.config.auto_classes.items() if name == type(model).__name__)


def batch_of(head, model, labels=False):
    batch = padded(draw_texts(head, model.config, labels=labels))
    if head.task != "choice":
        return batch
    shaped = {name: value.unflatten(0, (2, 2)) for name, value in batch.items() if name != "labels"}
    return shaped | ({"labels": torch.tensor([0, 1])} if labels else {})


def disturb(model) -> None:
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("head", TRAINED_HEADS, ids=str)
def test_adapters_of_every_head_train_come_back_and_merge(head, kind, tmp_path):
    model = make_model(head)
    tied = model.get_output_embeddings() is not None and model.config.tie_word_embeddings
    tuned = add_adapter(model, auto_of(model), {"r": 4, **KINDS[kind]})
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    for target in set(LORA_TARGETS) - ({"gate_proj"} if not model.config.get_text_config().gated_mlp else set()):
        assert any(f".{target}.lora_A" in name for name in trained), target
    assert not any("embed" in name or "lm_head" in name for name in trained)
    heads = [name for name in ("score", "qa_outputs", "seq_relationship") if hasattr(model, name)]
    assert all(any(f"{name}.modules_to_save" in one for one in trained) for name in heads)
    loss = tuned.train()(**batch_of(head, model, labels=True)).loss
    loss.backward()
    assert all(p.grad is not None for p in tuned.parameters() if p.requires_grad)
    disturb(tuned)
    batch = batch_of(head, model)
    expected = main_outputs(tuned.eval()(**batch))
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(head), tmp_path).eval()
    assert distance(main_outputs(loaded(**batch)), expected) < 1e-6
    merged = loaded.merge_and_unload()
    assert distance(main_outputs(merged(**batch)), expected) < 1e-4
    assert not tied or merged.get_output_embeddings().weight is merged.get_input_embeddings().weight


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_peft_knows_our_models_without_being_told(head):
    config = LoraConfig(r=2)
    get_peft_model(make_model(head), config)
    assert config.target_modules == set(LORA_TARGETS)


@pytest.mark.parametrize("family", ["encoder", "decoder", "encoder_decoder"])
def test_tied_embeddings_that_are_trained_stay_tied(family):
    (head,) = [head for head in TRAINED_HEADS if head.family == family and head.task == "lm"]
    model = make_model(head)
    tuned = add_adapter(model, auto_of(model), {"r": 2, "modules_to_save": ["embed_tokens"]})
    merged = tuned.merge_and_unload()
    assert merged.get_output_embeddings().weight is merged.get_input_embeddings().weight


def test_modules_that_are_trained_whole_do_not_take_the_place_of_the_head():
    (head,) = [head for head in TRAINED_HEADS if str(head) == "encoder-sequence"]
    model = make_model(head)
    tuned = add_adapter(model, auto_of(model), {"modules_to_save": ["embed_tokens"]})
    trained = {name for name, parameter in tuned.named_parameters() if parameter.requires_grad}
    assert all(any(f"{name}.modules_to_save" in one for one in trained) for name in ("score", "embed_tokens"))


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"rank": 4}, "unexpected keyword argument 'rank'"),
        ({"r": 0}, "should be a positive integer"),
        ({"target_modules": ["nowhere"]}, "nowhere"),
    ],
)
def test_what_peft_refuses_is_one_sentence(settings, said):
    model = make_model(TRAINED_HEADS[0])
    with pytest.raises(InputError, match=said) as error:
        add_adapter(model, auto_of(model), settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("head", [head for head in TRAINED_HEADS if head.task in ("sequence", "lm")], ids=str)
def test_adapters_learn_on_weights_in_8_bits(head, tmp_path):
    quantization = pytest.importorskip("torchao.quantization")
    from transformers import TorchAoConfig

    make_model(head).save_pretrained(tmp_path / "base")
    config = TorchAoConfig(quantization.Int8WeightOnlyConfig(), modules_to_not_convert=["score", "lm_head"])
    model, again = (head.model.from_pretrained(tmp_path / "base", quantization_config=config) for _ in range(2))
    assert "Int8" in type(model.base_model.get_submodule(_first_projection(model)).weight).__name__
    tuned = add_adapter(model, auto_of(model), {"r": 4})
    disturb(tuned)
    batch = batch_of(head, model, labels=True)
    optimizer = torch.optim.AdamW([p for p in tuned.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = tuned.train()(**batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    expected = main_outputs(tuned.eval()(**batch_of(head, model)))
    tuned.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(again, tmp_path / "adapter").eval()
    assert distance(main_outputs(loaded(**batch_of(head, model))), expected) < 1e-6
    merged = loaded.merge_and_unload()
    assert distance(main_outputs(merged(**batch_of(head, model))), expected) < 0.1  # merged, and in 8 bits again


def _first_projection(model) -> str:
    return next(name for name, _ in model.base_model.named_modules() if name.endswith("q_proj"))

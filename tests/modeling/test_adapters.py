"""LoRA by peft on every linear layer of every family."""

import pytest
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model

from tests.families import TRAINED_HEADS, distance, draw_texts, main_outputs, make_model, padded
from trivium.modeling import losses

HEADS = [head for head in TRAINED_HEADS if head.task in ("lm", "sequence", "tokens")]
TASKS = {
    "sequence": TaskType.SEQ_CLS,
    "tokens": TaskType.TOKEN_CLS,
    "encoder-lm": TaskType.FEATURE_EXTRACTION,
    "decoder-lm": TaskType.CAUSAL_LM,
    "encoder_decoder-lm": TaskType.SEQ_2_SEQ_LM,
}


def task_of(head) -> TaskType:
    return TASKS.get(head.task) or TASKS[str(head)]


def adapted(head, model):
    torch.manual_seed(0)
    # Peft spares the head of a sequence classifier by itself; that of a token classifier it would wrap twice.
    spared = ["score"] if head.task == "tokens" else None
    config = LoraConfig(r=4, target_modules="all-linear", task_type=task_of(head), exclude_modules=spared)
    return get_peft_model(model, config)


def disturb(model) -> None:
    """Moves the adapters away from zero, where they start."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_adapters_train_and_come_back(head, tmp_path):
    model = make_model(head)
    batch = padded(draw_texts(head, model.config, labels=True))
    plain = main_outputs(model(**batch))
    tuned = adapted(head, model)
    assert distance(main_outputs(tuned.eval()(**batch)), plain) < 1e-5
    tuned.train()(**batch).loss.backward()
    trained = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    for linear in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
        assert any(f"{linear}.lora_A" in name for name in trained)
    disturb(tuned)
    tuned.eval()
    expected = main_outputs(tuned(**batch))
    assert distance(expected, plain) > 1e-2
    tuned.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(make_model(head), tmp_path).eval()
    assert distance(main_outputs(loaded(**batch)), expected) < 1e-6
    assert distance(main_outputs(loaded.merge_and_unload()(**batch)), expected) < 1e-4


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("head", [head for head in HEADS if head.task == "lm"], ids=str)
def test_a_wrapped_output_matrix_is_called(head, chunked, monkeypatch):
    """The loss goes through the adapter of `lm_head`, with logits and without, in chunks and whole."""
    model = make_model(head, "transform", torch.float64)
    config = LoraConfig(r=4, target_modules=["lm_head", "q_proj"], task_type=task_of(head))
    tuned = get_peft_model(model, config).double()
    disturb(tuned)
    batch = padded(draw_texts(head, model.config, labels=True))
    expected = tuned.eval()(**batch).loss
    if chunked:
        monkeypatch.setattr(losses, "chunk_rows", lambda vocabulary: 2)
    loss = tuned.train()(**batch).loss
    assert loss.item() == pytest.approx(expected.item(), abs=1e-10)
    with tuned.disable_adapter():
        assert abs(tuned(**batch).loss.item() - loss.item()) > 1e-3
    loss.backward()
    assert all(p.grad.any() for name, p in tuned.named_parameters() if "lm_head" in name and "lora" in name)


@torch.no_grad()
@pytest.mark.parametrize("head", [head for head in HEADS if head.task == "lm" and head.family != "encoder"], ids=str)
def test_adapted_models_generate(head):
    tuned = adapted(head, make_model(head)).eval()
    disturb(tuned)
    batch = padded(draw_texts(head, tuned.config), "left")
    batch = {name: value for name, value in batch.items() if not name.startswith("decoder")}
    start = {"decoder_start_token_id": 0} if head.family == "encoder_decoder" else {}
    made = [tuned.generate(**batch, **start, max_new_tokens=5, do_sample=False, use_cache=c) for c in (True, False)]
    assert torch.equal(*made)

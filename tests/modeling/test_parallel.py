"""Plans for several devices, and dispatch over them, as far as one CPU can tell."""

import re

import pytest
import torch
from accelerate import cpu_offload, dispatch_model, infer_auto_device_map
from transformers.modeling_utils import PreTrainedModel

from tests.families import BASE_HEADS, HEADS, LM_HEADS, distance, draw_texts, main_outputs, make_model, padded


def missing(model: PreTrainedModel, plan: dict | None, of) -> list[str]:
    """Entries of a plan that name nothing in the model."""
    patterns = {key: re.compile(re.escape(key).replace(r"\*", r"\d+") + "$") for key in plan or {}}
    return [key for key, pattern in patterns.items() if not any(pattern.match(name) for name in of)]


@pytest.mark.parametrize("variant", ["plain", "bert", "transform"])
@pytest.mark.parametrize("head", HEADS, ids=str)
def test_plans_name_modules_that_exist(head, variant):
    """Tensor parallelism and FSDP, but for parts that the configuration leaves out."""
    model = make_model(head, variant)
    modules = {name for name, _ in model.named_modules()}
    for plan in (model.tp_plan, getattr(model, "_fsdp_plan", None)):
        optional = ("gate_proj",) if not model.config.get_text_config(decoder=True).gated_mlp else ()
        assert [key for key in missing(model, plan, modules) if not key.endswith(optional)] == []
    if head.task == "lm" and head.family == "decoder":
        assert model.tp_plan["lm_head"] and any("q_proj" in key for key in model.tp_plan)
    for name in model._no_split_modules:
        assert any(type(module).__name__ == name for module in model.modules())


@pytest.mark.parametrize("head", BASE_HEADS, ids=str)
def test_every_projection_has_its_part_of_the_plan(head):
    """One that the plan forgets would be whole on every device, between shards of its neighbours."""
    model = make_model(head, qk_norm=False)
    projections = [name for name, _ in model.named_modules() if re.search(r"(_attn|mlp)\.\w+_proj$", name)]
    patterns = [re.compile(re.escape(key).replace(r"\*", r"\d+") + "$") for key in model.tp_plan]
    assert model.tp_plan
    assert [name for name in projections if not any(pattern.match(name) for pattern in patterns)] == []


@torch.no_grad()
@pytest.mark.parametrize("variant", ["plain", "sliding-relative", "bert"])
@pytest.mark.parametrize("head", LM_HEADS, ids=str)
def test_parts_on_other_devices(head, variant):
    """Weights that wait elsewhere until their module runs: tied ones, the loss and generation included."""
    model = make_model(head, variant)
    batch = padded(draw_texts(head, model.config, labels=True))
    expected, loss = main_outputs(model(**batch)), model(**batch).loss
    training_loss = model.train()(**batch).loss
    model.eval()
    offloaded = cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert distance(main_outputs(offloaded(**batch)), expected) < 1e-6
    assert distance(offloaded(**batch).loss, loss) < 1e-6
    assert distance(offloaded.train()(**batch).loss, training_loss) < 1e-6


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_device_maps_keep_blocks_whole(head):
    model = make_model(head)
    budget = {"cpu": 30_000, "disk": 10**9}
    placed = infer_auto_device_map(model, max_memory=budget, no_split_module_classes=model._no_split_modules)
    assert not any(re.search(r"layers\.\d+\.", name) for name in placed)
    whole = infer_auto_device_map(model, max_memory={"cpu": 10**9})
    assert distance(*(main_outputs(m(**inputs(head, model))) for m in (model, dispatch_model(model, whole)))) == 0.0


def inputs(head, model) -> dict:
    batch = padded(draw_texts(head, model.config))
    return {k: v.unflatten(0, (2, 2)) for k, v in batch.items()} if head.task == "choice" else batch

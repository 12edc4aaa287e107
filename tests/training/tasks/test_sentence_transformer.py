"""sentence-transformers makes of a folder that fine-tuning left the vectors that we make."""

import json

import pytest
import torch

from tests.training.finetuned import examples, finetune, write_base, write_data
from trivium.training.predict import load_task
from trivium.training.tasks.sentence_transformer import write_modules

LONG = "the object " * 60  # is cut
CASES = [("encoder", None, {}), ("decoder", None, {})]
MORE = [("encoder", "first", {}), ("decoder", "mean", {}), ("encoder", None, {"lora": True, "merge": False})]
CASES += [pytest.param(*case, marks=pytest.mark.slow) for case in MORE]


@pytest.mark.parametrize("family, pooling, more", CASES)
def test_the_library_makes_the_same_vectors(family, pooling, more, tokenizers, tmp_path):
    library = pytest.importorskip("sentence_transformers", minversion="2.0")
    base = write_base(tmp_path / "base", family, tokenizers[family])
    data = write_data(tmp_path / "data", "text-embedding")
    finetune("text-embedding", base, data, tmp_path / "model", {"max_steps": 2}, pooling=pooling, **more)
    texts = [LONG, "x", *(row["text"] for row in examples("text-embedding", 5, seed=4))]
    ours = load_task(str(tmp_path / "model"))
    expected = ours[0].embed(ours[1], texts, 3)
    model = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    found = model.encode(texts, batch_size=2, convert_to_tensor=True)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert model.similarity_fn_name == "cosine" and model.max_seq_length == 64


@pytest.mark.parametrize("pooling, mode", [("mean", "mean_tokens"), ("first", "cls_token"), ("last", "lasttoken")])
def test_the_files_say_one_pooling_and_a_vector_of_length_one(pooling, mode, tmp_path):
    write_modules(tmp_path, 32, pooling, 64)
    pooled = json.loads((tmp_path / "1_Pooling" / "config.json").read_text())
    assert pooled.pop("word_embedding_dimension") == 32
    assert [name for name, is_used in pooled.items() if is_used] == [f"pooling_mode_{mode}"]
    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["type"].rpartition(".")[2] for module in modules] == ["Transformer", "Pooling", "Normalize"]
    assert all((tmp_path / module["path"]).is_dir() for module in modules)

"""One run, many ways to take it: losses and gradients over twenty steps do not depend on how a step is computed."""

import datasets
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Subset
from transformers import Trainer, TrainingArguments

import trivium
from trivium.modeling.documents import find_documents
from trivium.tokenization import special_token_ids
from trivium.training.arguments import PretrainArguments, PretrainTrainingArguments
from trivium.training.data.packing import PackedDataset
from trivium.training.data.pairs import PackedPairs
from trivium.training.data.tokenizing import tokenize_documents
from trivium.training.objectives.choice import OBJECTIVES, Made
from trivium.training.pretraining import PretrainTrainer
from trivium.training.rows import tokenized_documents

STEPS = 20
CASES = [(family, name) for family, objectives in OBJECTIVES.items() for name in objectives]
SHAPE = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
SCHEDULE = dict(max_steps=STEPS, learning_rate=3e-3, lr_scheduler_type="constant", weight_decay=0.0, seed=1)
QUIET = dict(logging_steps=1, save_strategy="no", disable_tqdm=True, use_cpu=True)
PLAIN = dict(remove_unused_columns=False, train_sampling_strategy="sequential", dataloader_pin_memory=False)


class Case:
    """An objective's collator, rows of real text, and models that begin alike."""

    def __init__(self, family, name, tokenizer, texts):
        self.objective = OBJECTIVES[family][name]
        args = PretrainArguments(family=family, data=["-"], objective=name, max_length=32, max_target_length=24)
        documents = datasets.Dataset.from_dict({"text": [text[:2000] for text in texts]})
        form = dict(special_tokens=self.objective.special_tokens, append_eos=self.objective.append_eos)
        if self.objective.pairs:
            stretches = [text[start : start + 150] for text in texts for start in range(0, 3000, 150)]
            halves = [(text[:90], text[90:]) for text in stretches if len(text) == 150]
            pairs = datasets.Dataset.from_dict(dict(zip(("source", "target"), zip(*halves, strict=True), strict=True)))
            self.rows = PackedPairs(pairs, tokenizer, 32, 24 if family == "encoder-decoder" else None, seed=0)
        else:
            tokens = tokenize_documents(documents, tokenizer, **form)
            self.rows = PackedDataset(tokens, self.objective.lengths(args)[0], seed=0)
        other = tokenized_documents(self.rows) if self.objective.other_documents else None
        self.collator = self.objective.collator(Made(tokenizer, args, 0, other))
        self.config = dict(vocab_size=len(tokenizer), **SHAPE, **self.objective.fields)
        self.config |= {k: v for k, v in special_token_ids(tokenizer).items() if k in CONFIGS[family].known_arguments()}
        assert len(self.rows) >= 4 * STEPS  # the stock Trainer ends a pass with a smaller batch
        self.head = getattr(trivium, self.objective.head or HEADS[family])
        self.family = family

    def model(self, **options):
        torch.manual_seed(0)
        config = CONFIGS[self.family](**self.config)
        return self.head._from_config(config, **options)

    def run(self, folder, size=4, accumulation=1, stock=False, collator=None, steps=STEPS, smoothing=0.0, **options):
        sizes = dict(per_device_train_batch_size=size, gradient_accumulation_steps=accumulation)
        arguments = dict(output_dir=str(folder)) | SCHEDULE | QUIET | sizes
        arguments |= dict(max_steps=steps, label_smoothing_factor=smoothing)
        common = dict(data_collator=collator or self.collator, train_dataset=self.rows)
        if stock:
            arguments |= dict(adam_beta2=0.95, **PLAIN)
            trainer = Trainer(self.model(**options), TrainingArguments(**arguments), **common)
        else:
            training_args = PretrainTrainingArguments(**arguments | dict(eval_on_start=False, warmup_steps=0))
            byte_lengths = [1] * self.config["vocab_size"]
            trainer = PretrainTrainer(self.model(**options), args=training_args, byte_lengths=byte_lengths, **common)
        trainer.train()
        logged = [(entry["loss"], entry["grad_norm"]) for entry in trainer.state.log_history if "loss" in entry]
        assert len(logged) == steps
        return torch.tensor(logged)


CONFIGS = {
    "encoder": trivium.TriviumEncoderConfig,
    "decoder": trivium.TriviumDecoderConfig,
    "encoder-decoder": trivium.TriviumEncoderDecoderConfig,
}
HEADS = {
    "encoder": "TriviumEncoderForMaskedLM",
    "decoder": "TriviumDecoderForCausalLM",
    "encoder-decoder": "TriviumEncoderDecoderForConditionalGeneration",
}


@pytest.fixture(scope="module")
def case(request, tokenizers, documents):
    family, name = request.param
    return Case(family, name, tokenizers[family], documents)


@pytest.fixture(scope="module")
def reference(case, tmp_path_factory):
    return case.run(tmp_path_factory.mktemp("reference"))


def padded(collator):
    """The same batches with a row for each document, and padding."""

    def collate(features):
        batch = collator(features)
        sides = [("position_ids", "attention_mask", [k for k in batch if k in ("input_ids", "token_type_ids")])]
        if "decoder_position_ids" in batch:
            sides.append(("decoder_position_ids", "decoder_attention_mask", ["decoder_input_ids", "labels"]))
        else:
            sides[0][2].append("labels")
        made = {k: v for k, v in batch.items() if k == "next_sentence_label"}
        for positions, mask, names in sides:
            found = find_documents(batch[positions].shape, batch[positions])
            lengths = found.lengths if found is not None else [batch[positions].shape[1]] * len(batch[positions])
            for name in names:
                pieces = batch[name].flatten().split(lengths)
                made[name] = pad_sequence(pieces, batch_first=True, padding_value=-100 if name == "labels" else 0)
            made[mask] = pad_sequence([torch.ones(length, dtype=torch.long) for length in lengths], batch_first=True)
        return made

    return collate


WAYS = {
    "padded, 2 micro-batches": dict(padded=True, size=2, accumulation=2),
    "stock Trainer, 4 micro-batches": dict(stock=True, size=1, accumulation=4),
    "sdpa with a mask": dict(attn_implementation="sdpa"),
}
MORE_WAYS = {
    "2 micro-batches": dict(size=2, accumulation=2),
    "4 micro-batches": dict(size=1, accumulation=4),
    "stock Trainer": dict(stock=True),
    "padded": dict(padded=True),
}


@pytest.mark.parametrize("way", [*WAYS, *(pytest.param(way, marks=pytest.mark.slow) for way in MORE_WAYS)])
@pytest.mark.parametrize("case", CASES, indirect=True, ids="-".join)
def test_losses_and_gradients_are_the_same(case, reference, tmp_path, way):
    options = dict((WAYS | MORE_WAYS)[way])
    if options.pop("padded", False):
        options["collator"] = padded(case.collator)
    found = case.run(tmp_path, **options)
    assert reference[-1, 0] < reference[0, 0]  # it learns, so errors would add up
    torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES, indirect=True, ids="-".join)
def test_the_held_out_loss_is_one_number_whatever_the_batch_size_and_packed_or_not(case, tmp_path):
    found = []
    for collator, sizes in ((case.collator, (1, 2, 8)), (padded(case.collator), (1, 8))):
        for size in sizes:
            arguments = dict(output_dir=str(tmp_path), per_device_eval_batch_size=size, max_steps=1)
            trainer = PretrainTrainer(
                case.model(),
                args=PretrainTrainingArguments(**arguments | QUIET),
                data_collator=collator,
                eval_dataset=Subset(case.rows, range(13)),
                byte_lengths=[token % 4 for token in range(case.config["vocab_size"])],
            )
            found.append(trainer.evaluate())
    for metrics in found[1:]:
        for name in ("loss", "bits_per_byte"):
            assert metrics[f"eval_{name}"] == pytest.approx(found[0][f"eval_{name}"], rel=1e-6)
        assert metrics["eval_predicted_bytes"] == found[0]["eval_predicted_bytes"] > 0


@pytest.mark.parametrize("stock", [False, True], ids=["ours", "stock"])
@pytest.mark.parametrize("case", [case for case in CASES if case[1] != "next-sentence"], indirect=True, ids="-".join)
def test_smoothed_labels_are_those_that_each_position_predicts(case, tmp_path, stock):
    """Against the same loss with the smoothing of torch, on what a model that is asked for logits gives."""
    collator, rows = case.collator, [case.rows[row] for row in range(4)]
    batch = collator(rows)
    labels = batch["labels"]
    model = case.model().eval()
    with torch.no_grad():
        logits = model(**batch, return_logits=True).logits
    if case.family == "decoder":
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=0.1)
    found = case.run(tmp_path, stock=stock, size=2, accumulation=2, steps=1, smoothing=0.1)
    assert found[0, 0].item() == pytest.approx(expected.item(), rel=1e-5)

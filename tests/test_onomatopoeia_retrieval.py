"""onomatopoeia_retrieval: words as queries, what is written of sounds, and who searches by it."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from inprocess import run_in_process
from made_sets import RWCP_WORDS, rwcp
from torch import nn

from orchestrator.models.search import search_command
from orchestrator.plan.options import Options
from orchestrator.runs.files import read_json
from systems import data, registry, testing
from systems.context import Context
from systems.data.prepare import Waveforms
from systems.data.words import END, PLACES, RATE, SYMBOLS, coded, symbols, word_of
from systems.errors import UserError
from systems.nets.writing import LatentEncoder, Writer
from systems.outputs import Outputs
from systems.tagged_search import FittedTaggedSearch
from systems.training.history import History
from systems.training.losses import LatentDistance, NextSymbol, Step
from systems.word_search import SoundToWord, WordToLatent, ranked

PAPER = "onomatopoeia_retrieval"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rwcp(tmp_path)
    return tmp_path


# --- words and data ---


def test_words_are_codes_between_a_begin_and_an_end() -> None:
    assert len(SYMBOLS) == 32
    assert symbols("k a: ch N x") == ("k", "a", ":", "ch", "N", "<unk>")
    codes = coded("k a: q")
    assert [SYMBOLS[int(code)] for code in codes] == ["<s>", "k", "a", ":", "q", "</s>"]
    assert word_of([*codes, *codes]) == ("k", "a", ":", "q")


def test_words_search_the_sounds_that_they_were_written_of(root: Path) -> None:
    dataset = data.load("rwcp", str(root))
    assert {part: len(dataset.part(part)) for part in dataset.parts()} == {
        "gallery": 6, "train": 20,
    }  # fmt: skip
    assert dataset.test_part is None
    about = {clip.clip_id: clip for clip in dataset.clips}
    query = about["a1/wood2/010/0003_10"]
    assert (query.group, query.role, query.columns["class"]) == ("0003", "labelled", "a1/wood2")
    assert dataset.labels["train"].values[query.clip_id] == ("a1/wood2/010",)
    source = pickle.loads(pickle.dumps(dataset.source))
    samples, rate = source.read(query.clip_id)
    assert rate == RATE
    assert word_of(samples[0]) == ("k", "a", "q")
    assert samples.shape[1] == round(query.duration * rate)
    raw = np.fromfile(root / "RWCP-SSD_Vol1/nospeech/drysrc/a1/wood2/48khz/010.raw", "<i2")
    sound, rate = source.read("a1/wood2/010")
    assert rate == 48_000
    np.testing.assert_allclose(sound[0], raw / 32768, atol=1e-7)
    assert about["a1/wood2/010"].duration == pytest.approx(len(raw) / 48_000)
    # Of the sounds of part test nothing is known but how they sound.
    assert about["a1/wood2/021"].columns["part"] == "test"
    assert not any(clip_id.startswith("a1/wood2/021/") for clip_id in about)
    (root / "split.csv").unlink()
    assert len(data.load("rwcp", str(root)).part("train")) == 30


def test_every_fault_is_named_at_once(root: Path) -> None:
    sounds = root / "RWCP-SSD_Vol1/nospeech/drysrc"
    (sounds / "a1/wood2/48khz/003.raw").write_bytes(b"")
    (sounds / "a1/wood2/48khz/010.raw").write_bytes(b"abc")
    (sounds / "b1/particl2/48khz/003.raw").unlink()
    with open(root / RWCP_WORDS / "b1/particl2/010.ono", "a") as file:
        file.write("0009,0009_1,z a\n0009,0009_2,,4\n")
    with pytest.raises(UserError) as error:
        data.load("rwcp", str(root))
    for named in ("wood2/48khz/003.raw", "is empty", "wood2/48khz/010.raw", "3 bytes",
                  "particl2/003.ono", "010.ono line 6", "phonemes is empty"):  # fmt: skip
        assert named in str(error.value), named


def test_broken_sounds_are_left_out_with_their_words(root: Path) -> None:
    (root / "RWCP-SSD_Vol1/nospeech/drysrc/a1/wood2/48khz/003.raw").write_bytes(b"")
    dataset = data.load("rwcp", str(root), skip_broken=True)
    assert len(dataset.classes) == 5
    assert len(dataset.part("train")) == 15
    assert len(dataset.skipped) == 1


def test_the_embedded_set_is_the_same_each_time_and_its_words_tell_classes() -> None:
    one, other = (data.load("synthetic_onomatopoeia", None) for _ in range(2))
    assert one.fingerprint() == other.fingerprint()
    words: dict[str, set[str]] = {}
    for clip in one.part("train"):
        word = "".join(word_of(one.source.read(clip.clip_id)[0][0]))
        words.setdefault(str(clip.columns["class"]), set()).add(word.rstrip("Nq:"))
    assert all(len(said) == 2 for said in words.values())
    assert len(set.union(*words.values())) == 12


# --- networks ---


def test_an_encoder_hears_a_padded_sequence_as_if_alone() -> None:
    torch.manual_seed(0)
    encoder = LatentEncoder(4, 5, 3).eval()
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 4, 6])
    together = encoder(x, lengths)
    assert together.abs().max() <= 1
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(x[row : row + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(together[row], alone[0])
    states, _ = encoder.lstm(x[1:2, :4])  # the last state of either way, each through its norm
    both = torch.cat([states[0, -1, :5], states[0, 0, 5:]])[None]
    by_hand = encoder.dense(both / math.sqrt(1 + 1e-5)).tanh()
    torch.testing.assert_close(together[1:2], by_hand)


def test_a_writer_writes_the_likeliest_symbol_step_by_step() -> None:
    torch.manual_seed(1)
    writer = Writer(3, 16, len(SYMBOLS)).eval()
    for parameter in writer.parameters():
        nn.init.normal_(parameter, std=0.7)
    with torch.inference_mode():
        latent = torch.randn(5, 3)
        written = writer.write(latent, 0, 1, 12)
        for row, word in enumerate(written):
            logits = writer(latent[row : row + 1], torch.tensor([[0, *word]]))[0]
            following = logits.argmax(1).tolist()
            assert following[: len(word)] == word
            assert len(word) == 12 or following[len(word)] == 1


def test_a_rank_is_by_the_probability_of_the_word() -> None:
    torch.manual_seed(2)
    network = SoundToWord(4, 8, 3).eval()
    items = torch.randn(6, 3)
    word = tuple(int(code) for code in coded("k a q"))
    with torch.inference_mode():
        found = network.ranking([word], items)[0]
        said = network.writer(items, torch.tensor([word[:-1]]).expand(6, -1)).softmax(2)
    product = torch.stack([said[:, k, code] for k, code in enumerate(word[1:])]).prod(0)
    torch.testing.assert_close(found, product ** (1 / 4))


def test_words_rank_by_l1_and_equal_words_alike() -> None:
    torch.manual_seed(3)
    model: Any = nn.Module()
    model.network = WordToLatent(8, 3)
    items = torch.rand(5, 3) * 2 - 1
    words = [coded("k a"), coded("z a N"), coded("k a")]
    found = ranked(model, words, items)
    assert torch.equal(found[0], found[2])
    with torch.inference_mode():
        code = torch.tensor(coded("z a N")[1:]).long()[None]
        latent = model.network({"word": code, "symbols": torch.tensor([4])}).clip[0]
    expected = [1 - sum(abs(float(a - b)) for a, b in zip(latent, one, strict=True)) / 6
                for one in items]  # fmt: skip
    np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_losses_by_hand() -> None:
    logits = torch.randn(2, 3, 5)
    targets = torch.tensor([[4, 1, -100], [2, 0, 1]])
    step = Step(nn.Identity(), {}, targets, Outputs(frames=logits), None)
    p = logits.softmax(2)
    logs = [p[0, 0, 4], p[0, 1, 1], p[1, 0, 2], p[1, 1, 0], p[1, 2, 1]]
    expected = -sum(math.log(one) for one in logs) / 5
    assert NextSymbol()(step).item() == pytest.approx(expected, rel=1e-5)
    near = Step(nn.Identity(), {}, torch.tensor([[0.0, 1.0], [1.0, 1.0]]),
                Outputs(torch.tensor([[0.5, 0.0], [1.0, -1.0]])), None)  # fmt: skip
    assert LatentDistance()(near).item() == pytest.approx((1.5 + 2.0) / 2)


# --- searches ---


def queries(*words: str) -> dict[str, Any]:
    named = {str(place): coded(word) for place, word in enumerate(words)}
    return {"query": Waveforms(RATE, named, None)}


def test_edits_by_hand() -> None:
    """Insertions, deletions and substitutions of symbols, not of letters; the best tag counts."""
    tags = {"x": ["k a q", "ch i N"], "y": ["k a : q"], "untagged": [], "z": ["g o N"]}
    fitted = FittedTaggedSearch(tags, History())
    said = fitted.predict(("0", "1"), queries("k a q", "ch o N"), Context())
    assert said.classes == tuple(tags)
    edits = 4 * (1 - said.ranking)  # the longest word has four symbols
    np.testing.assert_allclose(edits, [[0, 1, 4, 3], [1, 4, 4, 1]], atol=1e-6)
    asked = fitted.answer(["k a q", "ch o N"], Context())
    np.testing.assert_array_equal(asked.ranking, said.ranking)
    with pytest.raises(UserError, match="phonemes"):
        fitted.answer(["k a q", " "], Context())
    with pytest.raises(UserError, match="written words"):
        fitted.score([np.zeros(100, np.float32)], Context())


@pytest.mark.all
def test_a_word_encoder_takes_the_sounds_latents_as_they_are(tmp_path: Path) -> None:
    """Its gallery is its teacher's, heard in evaluation mode; training brings words nearer."""
    case = testing.Case.of(registry.get(PAPER), tmp_path)
    teacher, _ = case.teachers["s2s"]
    fitted, reports = case.train(tmp_path / "trained")
    items = teacher.latents(case.data.classes, case.sounds, Context(threads=1))
    torch.testing.assert_close(fitted.items, items)
    torch.testing.assert_close(items, teacher.items)
    assert reports[-1]["latent_distance"] < reports[0]["latent_distance"]
    written = teacher.written(case.data.classes[:3], case.sounds, Context(threads=1))
    assert all(set(word.split()) <= set(SYMBOLS) for word in written)
    assert PLACES[END] == 1


@pytest.mark.all
def test_a_run_is_asked_by_words_alone(tmp_path: Path) -> None:
    run = run_in_process(
        Options(
            system=f"{PAPER}/levenshtein_text_search", storage=str(tmp_path), name="r", trials=1
        )
    )
    assert read_json(run.members)["members"][0]["out_of_fold"]["value"] > 0.2
    how = {"top": 2, "model": "best", "format": "json", "output": None, "device": "cpu"}
    said = search_command(run, ["w a N", "g o : q"], "", **how)
    assert "gallery/Dog-" in said
    assert "gallery/Vacuum_cleaner-" in said
    shown = search_command(run, ["w a N"], "", **{**how, "format": "table"})
    assert shown.startswith("w a N\n")
    with pytest.raises(UserError, match="leave out --gallery"):
        search_command(run, ["w a N"], str(tmp_path), **how)

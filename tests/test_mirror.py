"""A storage root in an object store, and the copies that machines have of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket import ROOT, Bucket, Proxy, served

from orchestrator.cli import watching
from orchestrator.runs import lease
from orchestrator.runs.mirror import Mirror, mirror_at, mirror_of
from orchestrator.runs.objects import Objects
from orchestrator.runs.publisher import PublishingDriver
from orchestrator.runs.rundir import RunDir
from orchestrator.runs.storage import find_run, root_of
from systems.errors import UserError


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setattr(lease, "BEAT", 0.1)
    monkeypatch.setattr(lease, "LAPSE", 2.0)
    monkeypatch.setattr(lease, "LOOK", 0.02)
    with served(tmp_path / "hosts") as bucket:
        yield bucket


def host(bucket: Bucket, name: str) -> Mirror:
    """The copy of the root on a host, which is this one from now on."""
    bucket.on_host(name)
    return mirror_at(ROOT)


def write(mirror: Mirror, path: str, text: str) -> None:
    (mirror.root / path).parent.mkdir(parents=True, exist_ok=True)
    (mirror.root / path).write_text(text)


def contents(mirror: Mirror) -> dict[str, str]:
    """What there is of the run ``it``."""
    files = (mirror.root / "it").rglob("*")
    return {str(p.relative_to(mirror.root / "it")): p.read_text() for p in files if p.is_file()}


def test_what_one_host_publishes_another_fetches(bucket: Bucket) -> None:
    one = host(bucket, "one")
    write(one, "it/plan.json", "{}")
    write(one, "it/trials/00000/checkpoint.pt", "first")
    one.publish("it/")
    two = host(bucket, "two")
    two.fetch("it/")
    assert contents(two) == {"plan.json": "{}", "trials/00000/checkpoint.pt": "first"}
    write(two, "it/trials/00000/checkpoint.pt", "second")
    (two.root / "it/plan.json").unlink()
    write(two, "it/stack/new.npz", "x")
    two.publish("it/")
    one.fetch("it/")
    assert contents(one) == {"stack/new.npz": "x", "trials/00000/checkpoint.pt": "second"}


def test_a_hosts_own_changes_stay_until_another_has_the_run(bucket: Bucket) -> None:
    one = host(bucket, "one")
    for path in ("plan.json", "members.json"):
        write(one, f"it/{path}", "old")
    one.publish("it/")
    write(one, "it/plan.json", "unpublished")
    write(one, "it/stack/mine.npz", "unpublished")
    (one.root / "it/members.json").unlink()
    one.fetch("it/")
    assert contents(one) == {"plan.json": "unpublished", "stack/mine.npz": "unpublished"}
    one.fetch("it/", theirs=True)
    assert contents(one) == {"plan.json": "old", "members.json": "old"}


def test_lines_of_two_hosts_are_joined(bucket: Bucket) -> None:
    one, two = host(bucket, "one"), host(bucket, "two")
    path = "it/trials/00000/metrics.jsonl"
    write(one, path, "a\n")
    one.publish("it/")
    two.fetch("it/")
    write(one, path, "a\nb\n")
    write(two, path, "a\nc\n")
    one.publish("it/")
    two.publish("it/")
    one.fetch("it/")
    assert contents(one) == contents(two) == {"trials/00000/metrics.jsonl": "a\nb\nc\n"}


def test_what_says_that_something_is_whole_comes_last_and_goes_first(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, order = host(bucket, "one"), list[str]()
    names = ("result.json", "checkpoint.pt", "model.safetensors", "metrics.jsonl")
    for name in names:
        write(one, f"it/trials/00000/{name}", "x\n")

    def noted(self: Objects, path: str, *more: object) -> str:
        order.append(path.rpartition("/")[2])
        return "tag"

    monkeypatch.setattr(Objects, "send", noted)
    monkeypatch.setattr(Objects, "write_if", noted)
    monkeypatch.setattr(Objects, "remove", lambda self, paths: [noted(self, p) for p in paths])
    one.publish("it/")
    assert order == ["metrics.jsonl", "model.safetensors", "checkpoint.pt", "result.json"]
    order.clear()
    for name in names:
        (one.root / "it/trials/00000" / name).unlink()
    one.publish("it/")
    assert {*order[:2]} == {"metrics.jsonl", "result.json"}
    assert {*order[2:]} == {"checkpoint.pt", "model.safetensors"}


def test_a_run_has_one_driver_among_all_hosts(bucket: Bucket) -> None:
    bucket.on_host("one")
    run = RunDir(root_of(ROOT) / "it")
    with run.drive():
        (run.path / "plan.json").write_text("{}")
        bucket.on_host("two")
        other = RunDir(root_of(ROOT) / "it")
        assert other.is_driven()
        with pytest.raises(UserError, match="is being driven by another process"):
            other.drive()
        bucket.on_host("one")
    bucket.on_host("two")
    with other.drive():  # at once: it was given up
        assert other.generation == 2
        assert (other.path / "plan.json").exists()


def test_a_run_is_stopped_where_it_is_driven(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each host has files of its own: a request that is left in them reaches nobody."""
    bucket.on_host("one")
    with RunDir(root_of(ROOT) / "it").drive() as run:
        (run.path / "plan.json").write_text("{}")
        run.publish()
        bucket.on_host("two")
        monkeypatch.setattr(watching, "machine", lambda: "another")
        for command in (watching.stop, watching.attach):
            with pytest.raises(UserError, match="is driven on"):
                command(f"{ROOT}/it")
        bucket.on_host("one")


def test_a_driver_whose_lease_another_has_writes_nothing_more(bucket: Bucket) -> None:
    bucket.on_host("one")
    old = RunDir(root_of(ROOT) / "it").drive()
    driver = old._driver
    assert isinstance(driver, PublishingDriver)
    driver.lease._closing.set()  # it no longer beats, as if it had no way to the store
    driver.lease._thread.join()
    bucket.on_host("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease, "machine", lambda: "another")
        new = RunDir(root_of(ROOT) / "it").drive()
    assert new.generation == old.generation + 1
    (new.path / "members.json").write_text("new")
    new.close()
    (old.path / "members.json").write_text("old")
    driver.lease.renew()
    with pytest.raises(UserError, match="taken the run"):
        old.check_driver()
    old.close()
    assert bucket.client.get_object(Bucket="sweeps", Key="team/it/members.json")["Body"].read() == (
        b"new"
    )
    bucket.on_host("one")
    old.refresh()
    assert (old.path / "members.json").read_text() == "new"


def test_a_copy_is_found_by_address_and_by_name(bucket: Bucket) -> None:
    one = host(bucket, "one")
    write(one, "it/plan.json", "{}")
    one.publish("it/")
    for name, storage in (("it", ROOT), (f"{ROOT}/it", "runs")):
        two = host(bucket, f"host-of-{storage.replace('/', '.')}")
        found = find_run(name, storage)
        assert found.path == two.root / "it"
        assert found.address == f"{ROOT}/it"
        assert mirror_of(found.root) is two
    with pytest.raises(UserError, match="no run 'other'"):
        find_run("other", ROOT)


def test_what_cannot_be_is_one_message(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        root_of("gs://bucket/prefix")
    with pytest.raises(UserError, match="no bucket 'other-bucket'"):
        root_of("s3://other-bucket/x", runs=True)
    monkeypatch.setattr("orchestrator.runs.objects.TRIES", 1)
    proxy = Proxy(bucket.port)
    proxy.how = "error"
    bucket.reach(proxy.port)
    with pytest.raises(UserError, match="does not answer as it should"):
        root_of("s3://sweeps/other", runs=True)
    proxy.close()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    with pytest.raises(UserError, match="no credentials"):
        root_of("s3://sweeps/another", runs=True)


def test_an_answer_that_was_lost_is_no_lost_lease(bucket: Bucket) -> None:
    slate = host(bucket, "one").lease("it")
    first = slate.read()
    record = {"generation": 1, "heartbeat": 1}
    bucket.client.put_object(  # the store took it, and its answer did not come
        Bucket="sweeps", Key="team/it/driver", Body=json.dumps(record).encode()
    )
    assert slate.replace(first, record)
    assert not slate.replace(first, {"generation": 1, "heartbeat": 2})


def test_a_checkpoint_is_published_by_its_own_training(bucket: Bucket) -> None:
    """Another one may be between two of its files."""
    one, two = host(bucket, "one"), host(bucket, "two")
    trial = one.root / "it/trials/00000"
    for fold in (0, 1):
        write(one, f"it/trials/00000/fold{fold}/checkpoint.pt", "first")
        write(one, f"it/trials/00000/fold{fold}/checkpoint_crossed_1.pt", "first")
    one.publish("it/")
    for fold in (0, 1):
        write(one, f"it/trials/00000/fold{fold}/checkpoint.pt", "second")
        (trial / f"fold{fold}/checkpoint_crossed_1.pt").unlink()
    one.publish("it/trials/00000/", training=trial / "fold1")
    two.fetch("it/")
    names = "trials/00000/fold0/checkpoint.pt", "trials/00000/fold0/checkpoint_crossed_1.pt"
    assert contents(two) == {
        **dict.fromkeys(names, "first"), "trials/00000/fold1/checkpoint.pt": "second",
    }  # fmt: skip
    (trial / "fold0/checkpoint.pt").unlink()  # it has ended
    one.publish("it/trials/00000/", training=trial / "fold1")
    two.fetch("it/")
    assert contents(two) == {"trials/00000/fold1/checkpoint.pt": "second"}

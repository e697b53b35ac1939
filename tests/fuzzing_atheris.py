"""The readers of `tests/fuzzing.py` under libFuzzer, through atheris: the same oracle, some ten times the inputs.

    scripts/fuzz --engine atheris --seconds 3600 --messages FOLDER

Atheris instruments the readers' byte code instead of tracing it line by line, and libFuzzer watches what is compared with what. It
is no part of the development environment (35 MB, and not for every Python): `scripts/fuzz` says how to install it.

libFuzzer never returns, so each reader is fuzzed in a process of its own, one after the other. Its inputs are seeds written down
(`Seed.written`): before and after stand in front of the middle, so a middle that changed its length is given the right length
before a reader sees it. Findings go to a file of the folder that is thrown away at the end, and fuzzing goes on behind them.
"""

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

_SIZED = 0x01
_MOST_FINDINGS = 10


def written(before: bytes, middle: bytes, after: bytes, *, sized: bool) -> bytes:
    """A seed as an input of libFuzzer: flags, two lengths of two octets, before, after, middle."""
    head = bytes((_SIZED if sized else 0,)) + len(before).to_bytes(2) + len(after).to_bytes(2)
    return head + before + after + middle


def parted(octets: bytes) -> tuple[bytes, bytes, bytes, bool]:
    """Whatever libFuzzer made of it, as before, middle, after and whether the middle's length is written; never fails."""
    sized = bool(octets[:1] and octets[0] & _SIZED)
    before = int.from_bytes(octets[1:3]) % (len(octets) + 1)
    after = int.from_bytes(octets[3:5]) % (len(octets) + 1)
    rest = octets[5:]
    return rest[:before], rest[before + after :], rest[before : before + after], sized


def fuzz_each(
    folder: Path, seconds: float, names: Sequence[str], seed: int
) -> Iterator[tuple[str, list[str]]]:
    """Fuzz each reader in a process of its own; gives its line of figures and its findings.

    Raises:
        ValueError: a process ended otherwise than by running out of its time.

    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        for name in names:
            place = Path(scratch) / name
            (place / "corpus").mkdir(parents=True)
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "tests.fuzzing_atheris",
                    name,
                    str(folder),
                    str(place),
                    str(seconds),
                    str(seed),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            said = done.stderr
            executed = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
            covered = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", said)
            found = place / "findings"
            if executed is None or not covered:
                raise ValueError(f"{name}: libFuzzer ended on its own:\n{said[-2000:]}")
            read = int((place / "read").read_text())
            findings = found.read_text().splitlines() if found.exists() else []
            edges, features, kept = covered[-1]
            told = f"{edges} edges, {features} features, {kept} kept, {len(findings)} findings"
            yield f"{name}: {executed[1]} inputs, {read} read, {told}", findings


def _child(name: str, folder: Path, place: Path, seconds: float, seed: int) -> None:
    """One reader, in this process, until its time is over; libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(
        include=["cryptosvc.core.content.gbcs", "cryptosvc.core.content.dlms", "cryptosvc.core.device_file"],
        enable_loader_override=False,
    ):
        fuzzing = importlib.import_module("tests.fuzzing")
    for number, start in enumerate(fuzzing.seeds(folder)[name]):
        octets = written(start.before, start.middle, start.after, sized=start.sized)
        (place / "corpus" / f"{number:04}").write_bytes(octets)
    run, seen = fuzzing.Run(name), set[str]()
    reader, tally = fuzzing.READERS[name], place / "read"

    def one(octets: bytes) -> None:
        before, middle, after, sized = parted(octets)
        seed_ = fuzzing.Seed(before, middle, after, sized)
        run.read += fuzzing.tried(reader, seed_.octets, None, run)
        run.inputs += 1
        if run.inputs % 1000 == 0:
            tally.write_text(str(run.read))
        for what, wrong in run.findings:
            if what not in seen and len(seen) < _MOST_FINDINGS:
                seen.add(what)
                with (place / "findings").open("a") as kept:
                    kept.write(f"{re.sub('[^ -~]', '?', what)} {wrong.hex()}\n")
        run.findings.clear()

    tally.write_text("0")
    fuzzing.begin_patience()
    atheris.Setup(
        [
            "fuzz",
            f"-max_total_time={max(1, round(seconds))}",
            f"-seed={seed}",
            "-max_len=16384",
            "-timeout=60",
            "-print_final_stats=1",
            f"-artifact_prefix={place}/",
            str(place / "corpus"),
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    _parser = argparse.ArgumentParser()
    for _argument, _kind in (
        ("name", str),
        ("folder", Path),
        ("place", Path),
        ("seconds", float),
        ("seed", int),
    ):
        _parser.add_argument(_argument, type=_kind)
    _given = _parser.parse_args()
    _child(_given.name, _given.folder, _given.place, _given.seconds, _given.seed)

"""``python -m tests.fuzzing --seconds 60 heads forms``: looks for bytes that break a reader, guided by its coverage."""

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzzing.targets import CORPUS, LONGEST, TARGETS, beginnings

SHORT = 4096
"""Bytes of one input where a few pages are not needed."""
MEASURED = ("hub", "transports")


def fuzz(name: str, arguments: list[str]) -> None:
    """In a process of its own, which libFuzzer ends."""
    import atheris  # here: the tests replay what it has found without it

    with atheris.instrument_imports(include=list(MEASURED), enable_loader_override=False):
        for module in [
            each for each in sys.modules if each.split(".")[0] in MEASURED or each == "tests.fuzzing.targets"
        ]:
            del sys.modules[module]
        from tests.fuzzing.targets import TARGETS as MEASURED_TARGETS
    again = f"{sys.executable} -m tests.fuzzing {name} --libfuzzer"  # libFuzzer starts itself by it, to merge
    atheris.Setup([again, *arguments], MEASURED_TARGETS[name])
    atheris.Fuzz()


def run(*arguments: str) -> int:
    return subprocess.call([sys.executable, "-m", "tests.fuzzing", *arguments])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TARGETS)}; all of them without any")
    parser.add_argument("--seconds", type=int, default=60, help="for each (60)")
    parser.add_argument("--libfuzzer", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.libfuzzer is not None:
        fuzz(said.names[0], said.libfuzzer)
        return 0
    broken = 0
    for name in said.names or TARGETS:
        kept = CORPUS / name
        kept.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as place:
            grown, crash = Path(place, "corpus"), Path(place, "crash")
            grown.mkdir()
            for number, data in enumerate(beginnings(name)):
                (grown / f"begin-{number}").write_bytes(data)
            limits = (
                f"-max_total_time={said.seconds}",
                f"-max_len={LONGEST if name == 'bolts' else SHORT}",
                f"-exact_artifact_path={crash}",
            )
            broken += (
                run(name, "--libfuzzer", *limits, "-timeout=10", "-print_final_stats=1", str(grown), str(kept)) != 0
            )
            if crash.exists():
                (kept / "broken").write_bytes(crash.read_bytes())
                print(f"{name}: {kept / 'broken'} breaks it", flush=True)
            run(
                name,
                "--libfuzzer",
                "-merge=1",
                f"-artifact_prefix={place}/",
                f"-max_len={LONGEST if name == 'bolts' else SHORT}",
                str(kept),
                str(grown),
            )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

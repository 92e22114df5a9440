"""``python -m bench``: measure, tell, and write what was measured into the documentation."""

import signal
import sys

import click

from bench import bars, report
from bench.against import against, plain_http
from bench.load import NoCompiler, compiled
from bench.machine import raise_file_limit
from bench.run import QUICK, SECTIONS, Results, measure

SPARE_FILES = 500
FILES = 10_000 + SPARE_FILES
"""Connections that the largest sections hold, and what a server has open besides."""


@click.command()
@click.option("--quick", is_flag=True, help="A minute of it; exit code 1 when a figure misses its bar by far.")
@click.option("--section", "sections", multiple=True, type=click.Choice(list(SECTIONS)), help="Only this; repeatable.")
@click.option("--against", "url", metavar="URL", help="Load this hub instead; its URL is plain HTTP.")
@click.option("--token", metavar="JWT", help="May publish to and subscribe to every topic there.")
@click.option("--subscribers", default=1000, show_default=True, help="How many, with --against.")
def main(quick: bool, sections: tuple[str, ...], url: str | None, token: str | None, subscribers: int) -> None:
    """Measure the hub against a bare write() loop, Nchan and an sse-starlette hub, in one run.

    A whole run writes its tables and pictures below docs/performance.
    """
    try:
        raise_file_limit(subscribers + SPARE_FILES if url else FILES)
        if url is not None:
            plain_http(url)
        compiled("load")
        if url is not None:
            click.echo(against(url, token or "", subscribers), nl=False)
            return
    except (ValueError, RuntimeError, OSError, NoCompiler) as error:
        raise click.ClickException(str(error)) from error
    if quick:
        sys.exit(_judge(measure(sections or QUICK, quick=True)))
    else:
        results = measure(sections or SECTIONS, quick=False)
        click.echo(report.summary(results))
        if not sections:
            _write(results)
        sys.exit(1 if results.failed else 0)


def _write(results: Results) -> None:
    from bench.plots import draw  # the pictures' library is only there for `make bench`

    report.write(results)
    draw(results.figures)


def _judge(results: Results) -> int:
    """What missed its bar is measured once more: noise seldom strikes twice, a slow hub does."""
    if again := {bar.section for bar in bars.missed(results.figures)}:
        results.figures |= measure(sorted(again), quick=True).figures
    click.echo(report.summary(results))
    missed = bars.missed(results.figures)
    for bar in missed:
        click.echo(f"missed by more than noise explains: {bar.text}", err=True)
    return 1 if missed or results.failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    main()

"""``python -m bench``: measure, and write what was measured."""

import sys

import click

from bench import report
from bench.run import SECTIONS, measure


@click.command()
@click.option(
    "--quick", is_flag=True, help="One minute; exit code 1 when a ratio misses its bar by more than the noise."
)
@click.option("--section", "sections", multiple=True, type=click.Choice(list(SECTIONS)), help="Only this; repeatable.")
def main(quick: bool, sections: tuple[str, ...]) -> None:
    """Measure the hub against a bare write() loop, Nchan and an sse-starlette hub, in one run."""
    results = measure(sections or SECTIONS, quick=quick)
    click.echo(report.summary(results))
    sys.exit(1 if results.failed else 0)


if __name__ == "__main__":
    main()

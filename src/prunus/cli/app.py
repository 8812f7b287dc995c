"""The commands in one place, and what happens when one of them fails."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prunus.cli.bench import EXAMPLES as BENCH_EXAMPLES
from prunus.cli.bench import bench
from prunus.cli.cache import cache_app
from prunus.cli.check import EXAMPLES as CHECK_EXAMPLES
from prunus.cli.check import check
from prunus.cli.compare import EXAMPLES as COMPARE_EXAMPLES
from prunus.cli.compare import compare
from prunus.cli.compile import EXAMPLES as COMPILE_EXAMPLES
from prunus.cli.compile import compile
from prunus.cli.env import EXAMPLES as ENV_EXAMPLES
from prunus.cli.env import env
from prunus.cli.explain import EXAMPLES as EXPLAIN_EXAMPLES
from prunus.cli.explain import explain
from prunus.cli.inspect import EXAMPLES as INSPECT_EXAMPLES
from prunus.cli.inspect import inspect
from prunus.cli.options import is_debugging
from prunus.cli.output import print_error, readable_warnings
from prunus.cli.profile import EXAMPLES as PROFILE_EXAMPLES
from prunus.cli.profile import profile
from prunus.cli.report import EXAMPLES as REPORT_EXAMPLES
from prunus.cli.report import report
from prunus.cli.run import EXAMPLES as RUN_EXAMPLES
from prunus.cli.run import run
from prunus.cli.whatif import EXAMPLES as WHATIF_EXAMPLES
from prunus.cli.whatif import whatif
from prunus.errors import PrunusError

WRONG_USE = 2
INTERRUPTED = 130  # 128 and the number of SIGINT, as shells have it


class Commands(TyperGroup):
    """All commands: an error that prunus raises on purpose is one message, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; its exit status is 2 after a `PrunusError`, 130 after Ctrl-C."""
        with readable_warnings():
            try:
                return super().invoke(ctx)
            except PrunusError as error:
                if is_debugging(ctx):
                    raise
                print_error(str(error))
                raise typer.Exit(WRONG_USE) from error
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    name="prunus",
    cls=Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with: prunus bench stand-in --engine prunus,prunus-dense",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from prunus import __version__

        print(f"prunus {__version__}")
        raise typer.Exit


@app.callback()
def prunus(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Runs pruned Hugging Face transformers as fast as their zeros allow, on the CPU you have."""


def _examples(lines: tuple[str, ...]) -> str:
    return "\n\n".join(["Examples:", *lines])


app.command(epilog=_examples(BENCH_EXAMPLES))(bench)
app.command(epilog=_examples(COMPILE_EXAMPLES))(compile)
app.command(epilog=_examples(EXPLAIN_EXAMPLES))(explain)
app.command(epilog=_examples(RUN_EXAMPLES))(run)
app.command(epilog=_examples(CHECK_EXAMPLES))(check)
app.command(epilog=_examples(PROFILE_EXAMPLES))(profile)
app.command(epilog=_examples(INSPECT_EXAMPLES))(inspect)
app.command(epilog=_examples(WHATIF_EXAMPLES))(whatif)
app.command(epilog=_examples(REPORT_EXAMPLES))(report)
app.command(epilog=_examples(COMPARE_EXAMPLES))(compare)
app.command(epilog=_examples(ENV_EXAMPLES))(env)
app.add_typer(cache_app, name="cache")

"""The command line: hands the actions of `wiring` to the commands of `cli`."""

import sys

if __name__ != "__mp_main__":  # a process of a pool begins here too, and runs nothing of the command line
    from cryptosvc.cli import app, console
    from cryptosvc.core.errors import Internal
    from cryptosvc.wiring import process
    from cryptosvc.wiring.actions import WiredActions


def main() -> int:
    """Run the command line this process was started with; return its exit code."""
    try:
        process.refuse_optimised()
    except Internal as error:
        console.print_error(error, as_json=False)
        return console.exit_code(error)
    return app.run(WiredActions(), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())

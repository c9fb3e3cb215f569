"""``python -m lrpilot`` and the ``lrpilot`` command."""

import sys


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from lrpilot.cli import app
    except ModuleNotFoundError as error:
        sys.exit(f"lrpilot: the command line needs {error.name}; pip install 'lrpilot[bench]'")
    app()


if __name__ == "__main__":
    main()

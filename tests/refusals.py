"""How a command ends that cannot be carried out."""


def check_refused(result, message):
    """One line on standard error, which holds ``message``; no output; exit code 2."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("lrpilot: ")
    assert message in line

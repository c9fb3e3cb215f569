"""Learning a schedule: environments, training, and what past runs teach."""

__all__: list[str] = []

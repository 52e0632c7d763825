"""What is raised where something that must hold does not."""


class Broken(Exception):
    """A promise that does not hold for an input."""

    def __init__(self, promise: str, detail: str) -> None:
        """promise: a few words, the same for all inputs that break it; detail: what is to be seen."""
        super().__init__(f"{promise}: {detail}")
        self.promise = promise

"""The version, as a static string: reading it from the package metadata takes 30 to 60 ms."""

__version__ = "0.1.0"


def version() -> str:
    """Version of hornbeam."""
    return __version__

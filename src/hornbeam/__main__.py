"""`python -m hornbeam` prints what hornbeam found on this machine."""

from hornbeam.backend.device import show_config

if __name__ == "__main__":
    show_config()

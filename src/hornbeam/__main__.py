"""`python -m hornbeam` prints what hornbeam found on this machine."""

from hornbeam.backend.devices import show_config

if __name__ == "__main__":
    show_config()

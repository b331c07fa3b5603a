"""``hyperfs``, also as ``python -m hyperfs``: where the program begins, before anything of it is loaded.

The rule: ^C ends a command without a word, also in the first instant, when nobody would catch `KeyboardInterrupt`.
"""

import signal


def main() -> None:
    """Run one command and end the process with its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # and not ignored, as in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hyperfs.cli.main import main as run  # which catches ^C from then on

    run()


if __name__ == "__main__":
    main()

"""One module for each command of `vae-repair`; only argparse is imported before a command runs."""

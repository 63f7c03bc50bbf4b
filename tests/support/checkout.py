"""The checkout, and what its setup.cfg says."""

import configparser
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def options(section: str) -> configparser.SectionProxy:
    """A section of setup.cfg."""
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    return configuration[section]

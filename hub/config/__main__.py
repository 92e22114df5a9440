"""``python -m hub.config`` prints the README's table of the settings."""

import sys

from hub.config.setting import table
from hub.config.settings import SETTINGS

if __name__ == "__main__":
    sys.stdout.write(table(SETTINGS.values()))

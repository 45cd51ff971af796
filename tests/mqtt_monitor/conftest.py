from __future__ import annotations

import sys
from pathlib import Path

# pytest's importlib mode leaves a test folder's own modules out of the path.
sys.path.insert(0, str(Path(__file__).parent))

"""The agent's tests drive a real oko-switchd with the helpers of tests/switch."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "switch"))

"""Without Ray and Optuna: what a process runs first that is to be without them."""

HIDE = """
import sys

class Without:
    '''A finder that finds neither: as if they were not installed, for those who only ask whether they are, too.'''

    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("ray", "optuna"):
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""

"""A plugin whose import fails, as with a dependency that is not installed."""

import module_that_is_not_installed  # noqa: F401, the import is the failure

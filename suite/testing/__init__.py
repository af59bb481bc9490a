"""The contracts of what other packages bring, for the tests of those packages.

One line each in the other package's pytest:

```python
def test_the_coin_keeps_the_contract(tmp_path):
    check_domain("mypackage.coin:CoinConfig", "domain.contexts=4", folder=tmp_path)
```

A broken rule raises BrokenContract with one sentence.
"""

from suite.testing.domain import check_domain
from suite.testing.language import check_judge, check_task
from suite.testing.objective import check_objective
from suite.testing.shared import BrokenContract

__all__ = ["BrokenContract", "check_domain", "check_judge", "check_objective", "check_task"]

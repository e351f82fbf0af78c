import pytest

from research.explore import views


@pytest.fixture(autouse=True, scope="module")
def few_points():
    """t-SNE of few points: it takes most of the time of an exploration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "MOST_POINTS", 40)
        yield

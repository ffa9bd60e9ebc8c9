"""The order in which tests run side by side."""

from pathlib import Path

from support.order import slow_first


class Item:
    def __init__(self, module: str, marks: str = "") -> None:
        self.path, self.marks = Path(module), marks

    def get_closest_marker(self, name: str) -> bool:
        return name in self.marks.split()


def test_each_workers_share_begins_with_its_slow_modules_and_modules_stay_whole():
    items = [Item(module, "slow" if module in "cf" and n == 1 else "") for module in "abcdefgh" for n in range(3)]
    ordered = slow_first(items, 2)  # pyright: ignore[reportArgumentType]
    assert sorted(map(id, ordered)) == sorted(map(id, items))
    assert "".join(map(str, (item.path for item in ordered))) == "cccaaabbbddd" + "fffeeeggghhh"


def test_more_slow_tests_than_a_share_has_room_for():
    items = [Item("a", "long"), Item("a"), Item("a"), Item("b")]
    assert slow_first(items, 2) == items  # pyright: ignore[reportArgumentType]

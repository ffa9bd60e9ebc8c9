from jcl.report.costs import Cost
from jcl.report.page.costs import cost_table


def cells_of(**more: object) -> list[str]:
    known = {"pretrain_on": ("a", "b"), "finetune_on": "c", "row": "JCL"}
    known |= {"pretraining": 90.0, "pretraining_status": "done", "finetunings": 2, "finetuning": 30.0}
    cost = Cost(**{**known, **more})  # type: ignore[arg-type]
    return [each.text for each in cost_table([cost]).rows[0].cells]


def test_minutes_and_their_sum() -> None:
    assert cells_of() == ["a + b", "c", "1.50", "2", "0.50", "2.50"]


def test_a_row_of_random_weights_is_pretrained_on_nothing() -> None:
    assert cells_of(pretraining=None, pretraining_status=None) == ["nothing", "c", "–", "2", "0.50", "1.00"]


def test_a_pretraining_that_failed_says_so() -> None:
    assert cells_of(pretraining=None, pretraining_status="failed", finetunings=0, finetuning=None) == [
        "a + b", "c", "failed", "0", "–", "–",
    ]  # fmt: skip

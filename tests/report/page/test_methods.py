from jcl.report.page.methods import method_table


def test_settings_that_a_row_has_of_its_own() -> None:
    table = method_table(
        {
            "Random": {"name": "Random", "method": "none", "method_settings": {}, "backbone": None},
            "JCL": {
                "method": "jcl", "method_settings": {"dense_weight": 0.0}, "backbone": "unet", "width": 8,
                "pretrain": {"steps": 3}, "finetune": {"epochs": 1}, "paper": None,
            },
        }
    )  # fmt: skip
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["random weights", "–"],
        ["jcl", "backbone = unet, width = 8, dense_weight = 0.0, pretrain steps = 3, finetune epochs = 1"],
    ]
    assert [row.ours for row in table.rows] == [False, True]

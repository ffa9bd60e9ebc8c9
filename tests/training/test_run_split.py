"""Whom a training uses: fold K means the same patients to pre-training and fine-tuning, whoever has labels.

Members of one class of fault, "one option, two populations", as other tools have met them; nothing is trained here.
"""

import json
import shutil
from pathlib import Path

import pytest

from jcl.config import FinetuneConfig, PrepareConfig, PretrainConfig
from jcl.data.authors_folds import draw_few, draw_fold
from jcl.data.splits import Split, make_split, read_split, write_split
from jcl.data.store import Store
from jcl.errors import DataError, UsageError
from jcl.files import write_json
from jcl.settings import as_mapping
from jcl.stages.prepare import prepare
from jcl.training.initial_run import images_of, patients_seen
from jcl.training.run_split import finetuning_split, pretraining_split
from support.scans import write_volumes
from support.shared import made_once


def stored(factory: pytest.TempPathFactory, name: str, **volumes: int) -> Path:
    def make(out: Path) -> None:
        scans = write_volumes(out.with_name("scans"), slices=2, size=16, **volumes)
        prepare(PrepareConfig(source=scans, out=out, labels="1=ball", workers=1))

    return made_once(factory, name, make)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten patients, of whom p0 to p3 have labels."""
    return Store.open(stored(tmp_path_factory, "partly-labelled", patients=10, labelled=4))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Ten patients, all with labels."""
    return Store.open(stored(tmp_path_factory, "all-labelled", patients=10, labelled=10))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three patients, of whom p0 has labels."""
    return Store.open(stored(tmp_path_factory, "one-labelled", patients=3, labelled=1))


def pretrained(out: Path, *stores: Store, **settings) -> tuple[Path, Split | None]:
    """The folder of a pre-training that has just ended, but for its weights."""
    config = PretrainConfig(stores=tuple(store.path for store in stores), out=out, **settings)
    split, _, left_out = pretraining_split(config, stores)
    out.mkdir()
    info = {"kind": "pretrain", "settings": as_mapping(config), "left_out": left_out}
    write_json(out / "run.json", {**info, "stores": [{"path": str(s.path), "digest": s.digest} for s in stores]})
    if split is not None:
        write_split(out / "split.json", split)
    return out, split


def fine(store: Store, out: Path, init: Path | str = "none", **settings) -> tuple[FinetuneConfig, Split]:
    return finetuning_split(FinetuneConfig(store=store.path, init=str(init), out=out, **settings), store)


def test_the_authors_folds_and_draws_are_those_of_both_stages(tmp_path: Path, whole: Store) -> None:
    """The patients drawn keep their order; a run that goes on has them too."""
    everyone = [f"p{number}" for number in range(10)]
    train, test = draw_fold(everyone, 3)
    pre, split = pretrained(tmp_path / "pre", whole, fold=3, folds="authors")
    assert split == Split(tuple(train), (), tuple(test))
    for init in ("none", pre):
        config, drawn = fine(whole, tmp_path / "fine", init, fold=3, folds="authors", patients=4)
        assert drawn == Split(tuple(draw_few(train, 4)), (), tuple(test))
    config, drawn = fine(whole, tmp_path / "fine", pre, patients=4)  # taken over
    assert (config.fold, config.folds, drawn.train) == (3, "authors", tuple(draw_few(train, 4)))


def test_the_authors_folds_are_of_their_whole_set(tmp_path: Path, whole: Store, monkeypatch) -> None:
    monkeypatch.setitem(whole.preparation, "dataset", "chd")
    with pytest.raises(UsageError, match="authors' folds of chd are of 68 patients, this store has 10"):
        fine(whole, tmp_path / "fine", folds="authors")
    with pytest.raises(UsageError, match="authors' folds of chd are of 68 patients, this store has 10"):
        pretrained(tmp_path / "pre", whole, folds="authors", fold=0)
    monkeypatch.setitem(whole.preparation, "dataset", "hvsmr")
    assert len(fine(whole, tmp_path / "fine", folds="authors")[1].test) == 2


@pytest.mark.parametrize("fold", [0, 1, 2, 3])
def test_a_pre_training_leaves_out_whom_the_same_fold_tests(store: Store, tmp_path: Path, fold: int) -> None:
    """Validation cases that were pre-trained on: https://github.com/Luffy03/Large-Scale-Medical/issues/25."""
    pre, split = pretrained(tmp_path / "pre", store, fold=fold)
    assert split is not None
    assert set(split.train) | set(split.test) == {f"p{number}" for number in range(10)}
    for settings in ({"fold": fold}, {}):
        config, tested = fine(store, tmp_path / "fine", pre, **settings)
        assert tested.test == split.test == make_split(["p0", "p1", "p2", "p3"], fold=fold, folds=4).test
        assert set(tested.train) == {"p0", "p1", "p2", "p3"} - set(split.test)
        assert config.fold == fold


def test_another_fold_seed_or_number_than_the_pre_training_had_is_refused(store: Store, tmp_path: Path) -> None:
    pre, split = pretrained(tmp_path / "pre", store, fold=0, split_seed=3)
    for settings in ({"fold": 1, "split_seed": 3}, {"fold": 0, "folds": 2, "split_seed": 3}):
        with pytest.raises(UsageError, match=r"test patients \(p\d.*leave --fold, --folds and --split-seed out"):
            fine(store, tmp_path / "fine", pre, **settings)
    config, kept = fine(store, tmp_path / "fine", pre, patients=1, split_seed=8)  # which of them, not who is tested
    assert split is not None
    assert kept.test == split.test
    assert (config.fold, config.split_seed) == (0, 8)


def test_a_pre_training_on_everyone_is_refused_unless_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    pre, _ = pretrained(tmp_path / "pre", store)
    with pytest.raises(UsageError, match=r"1 of the 1 test patients .*--fold 0, or give --fold none .*--allow-seen"):
        fine(store, tmp_path / "fine", pre)
    assert len(fine(store, tmp_path / "fine", pre, allow_seen=True)[1].test) == 1
    config, split = fine(store, tmp_path / "fine", pre, fold="none")
    assert (config.fold, split) == ("none", Split(("p0", "p1", "p2", "p3")))
    (pre / "model.safetensors").touch()
    with pytest.raises(UsageError, match="test patients"):  # the weights alone, out of the same folder
        fine(store, tmp_path / "fine", pre / "model.safetensors")


def test_the_same_images_in_another_store_are_the_same_patients(store: Store, tmp_path: Path) -> None:
    """Copies and versions of one case on both sides: https://github.com/MIC-DKFZ/nnUNet/issues/1871.

    The scans are prepared again at another spacing, and once more under other names.
    """
    scans = store.path.with_name("scans")
    again = prepare(PrepareConfig(source=scans, out=tmp_path / "again", labels="1=ball", spacing=2.0, workers=1))
    pre, split = pretrained(tmp_path / "pre", store, fold=1)
    assert split is not None
    assert fine(again, tmp_path / "fine", pre)[1].test == split.test  # taken over
    with pytest.raises(UsageError, match="test patients"):
        fine(again, tmp_path / "fine", pre, fold=2)
    named = shutil.copytree(scans, tmp_path / "scans")
    for path in sorted(named.rglob("p*.nii.gz")):
        path.rename(path.with_name(f"x{path.name}"))
    other = prepare(PrepareConfig(source=named, out=tmp_path / "other", labels="1=ball", workers=1))
    everyone, _ = pretrained(tmp_path / "everyone", store)
    with pytest.raises(UsageError, match=r"test patients \(xp\d\)"):
        fine(other, tmp_path / "fine", everyone)


def test_test_patients_are_left_out_of_all_stores(store: Store, tmp_path: Path) -> None:
    """A pre-training on two versions of the scans: the split is of the first, the images are in both."""
    scans = store.path.with_name("scans")
    coarse = prepare(PrepareConfig(source=scans, out=tmp_path / "coarse", labels="1=ball", spacing=2.0, workers=1))
    config = PretrainConfig(stores=(store.path, coarse.path), out=tmp_path / "pre", fold=0)
    split, chosen, left_out = pretraining_split(config, [store, coarse])
    assert split is not None
    assert chosen[0] == chosen[1] == set(split.train)
    assert left_out == {str(coarse.path): list(split.test)}
    pre, _ = pretrained(tmp_path / "pre", store, coarse, fold=0)
    assert fine(store, tmp_path / "fine", pre)[1].test == split.test


def test_namesakes_are_told_and_stores_that_are_gone(store: Store, tmp_path: Path, capsys) -> None:
    scans = write_volumes(tmp_path / "scans", patients=4, labelled=4, slices=3, size=16)
    other = prepare(PrepareConfig(source=scans, out=tmp_path / "store", labels="1=ball", workers=1))
    pre, _ = pretrained(tmp_path / "pre", other)
    fine(store, tmp_path / "fine", pre)
    assert "other images of test patients of these names: p" in capsys.readouterr().err
    shutil.rmtree(other.path)
    assert patients_seen(pre, images_of(store.cases), store.digest).unknown == (str(other.path),)
    fine(store, tmp_path / "fine", pre)
    assert "is open" in capsys.readouterr().err


def test_the_number_of_patients_counts_those_with_labels(store: Store, tmp_path: Path) -> None:
    """The split file of a pre-training names unlabelled patients too; of two drawn, both train."""
    pre, split = pretrained(tmp_path / "pre", store, fold=0)
    assert split is not None
    _, few = fine(store, tmp_path / "fine", split=pre / "split.json", patients=2)
    assert set(few.train) < {"p0", "p1", "p2", "p3"}
    assert few.test == split.test
    with pytest.raises(UsageError, match="4 patients asked for; the training part has 3 with labels: take 1 to 3"):
        fine(store, tmp_path / "fine", patients=4)
    assert len(fine(store, tmp_path / "fine", patients=4, fold="none")[1].train) == 4
    with pytest.raises(UsageError, match="--split or --fold"):
        fine(store, tmp_path / "fine", split=pre / "split.json", fold=2)


def test_labels_that_came_after_the_pre_training(store: Store, tmp_path: Path) -> None:
    """Pre-trained on a store without labels: what it left out is what can be tested, if it has got labels since."""
    scans = Path(shutil.copytree(store.path.with_name("scans"), tmp_path / "scans"))
    shutil.rmtree(scans / "labels")
    bare = prepare(PrepareConfig(source=scans, out=tmp_path / "bare", workers=1))
    outcomes = set()
    for fold in range(5):
        pre, split = pretrained(tmp_path / f"pre{fold}", bare, fold=fold)
        assert split is not None
        having = set(split.test) & {"p0", "p1", "p2", "p3"}
        outcomes.add(bool(having))
        if having:
            assert fine(store, tmp_path / "fine", pre)[1].test == split.test
        else:
            with pytest.raises(UsageError, match="none of the patients that it left out to be tested has labels"):
                fine(store, tmp_path / "fine", pre)
    assert outcomes == {True, False}


def test_one_labelled_patient_is_trained_on_and_nobody_tested(alone: Store, tmp_path: Path, capsys) -> None:
    """nnU-Net's five folds need five cases, also for one: https://github.com/MIC-DKFZ/nnUNet/issues/1933."""
    config, split = fine(alone, tmp_path / "fine")
    assert (config.fold, split) == ("none", Split(("p0",)))
    assert "(--fold none)" in capsys.readouterr().err
    with pytest.raises(UsageError, match="p0 is the only patient with labels"):
        fine(alone, tmp_path / "fine", fold=0)
    everyone, none = pretrained(tmp_path / "pre", alone, fold="none")
    assert none is None
    assert fine(alone, tmp_path / "fine", everyone)[1] == Split(("p0",))


def test_a_run_that_goes_on_keeps_its_split(store: Store, tmp_path: Path) -> None:
    """A split that is drawn anew on resuming may be another: https://github.com/talmolab/sleap-nn/issues/602.

    That of an earlier version, whose pre-trainings folded everyone, say.
    """
    old = Split(("p0", "p9", "p5"), (), ("p1", "p2"))
    for out, settings in ((tmp_path / "fine", {"fold": 0, "folds": 5}), (tmp_path / "pre", {"fold": 0})):
        out.mkdir()
        write_json(out / "run.json", {"kind": out.name, "settings": settings})
        write_split(out / "split.json", old)
    config, split = fine(store, tmp_path / "fine", resume=True)
    assert (config.fold, split) == (0, old)
    resumed = PretrainConfig(stores=(store.path,), out=tmp_path / "pre", fold=0, resume=True)
    assert pretraining_split(resumed, [store])[:2] == (old, [set(old.train)])


def test_a_given_split_goes_from_the_pre_training_to_the_fine_tuning(store: Store, tmp_path: Path) -> None:
    write_split(tmp_path / "mine.json", Split(("p0", "p7"), (), ("p3",)))
    pre, _ = pretrained(tmp_path / "pre", store, split=tmp_path / "mine.json")
    config, split = fine(store, tmp_path / "fine", pre)
    assert split == Split(("p0",), (), ("p3",))
    assert config.split == pre / "split.json"
    (tmp_path / "fine").mkdir()
    write_json(tmp_path / "fine" / "run.json", {"kind": "finetune", "settings": as_mapping(config)})
    write_split(tmp_path / "fine" / "split.json", split)
    assert fine(store, tmp_path / "fine", pre, resume=True) == (
        FinetuneConfig(**{**vars(config), "resume": True}),
        read_split(tmp_path / "fine" / "split.json"),
    )


def test_damaged_records_are_named(store: Store, tmp_path: Path) -> None:
    pre, _ = pretrained(tmp_path / "pre", store)
    (pre / "run.json").write_text(json.dumps({"kind": "pretrain"}))
    with pytest.raises(DataError, match=r"pre/run\.json: not what a training of jcl writes"):
        patients_seen(pre, images_of(store.cases), store.digest)

"""The machinery of studies, on a study that counts how often its trials were measured."""

import json
import types

import pytest

from headwater import catalogue, cli, endings
from headwater.errors import Interrupted, UserError
from headwater.studies import conduct as module
from headwater.studies.findings import Claim, Findings, Plot, Table
from headwater.studies.study import Study, StudySettings, trials_of


class Settings(StudySettings):
    trials: int = 3


@pytest.fixture
def calls(monkeypatch):
    """The names of the trials that were measured; `stop` among them interrupts the study."""
    measured = []

    def run(study: Study[Settings]) -> Findings:
        def measure(folder, number):
            (folder / "file.txt").write_text("left by the trial")
            if measured.count("stop"):
                measured.remove("stop")
                raise Interrupted
            measured.append(number)
            return {"square": number**2, "odd": float("nan")}

        results = [study.trial(f"trial-{n}", lambda f, n=n: measure(f, n)) for n in range(study.settings.trials)]
        total = sum(result["square"] for result in results)
        points = [(float(n), float(result["square"])) for n, result in enumerate(results)]
        return Findings(
            lead="How fast do <squares> grow?",
            claims=[
                Claim.at_least("Squares add up to five.", total, 5),
                Claim.at_most("To no more than four.", total, 4),
            ],
            tables=[Table("Squares", ["n", "square"], [["one", 1], ["half", 0.25], ["none", None]])],
            plots=[Plot("Squares", "n", "square", {"squares": points, "none": []}, log_x=True, log_y=True)],
            figures={"total": total},
        )

    monkeypatch.setattr(module, "definition", lambda *_: types.SimpleNamespace(Settings=Settings, run=run))
    return measured


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("study: squares\nseed: 3\nthreads: 1\n")
    return path


def test_a_study_writes_its_report_and_its_figures(calls, recipe, tmp_path):
    told = module.conduct(recipe, [], tmp_path / "runs")
    assert calls == [0, 1, 2]
    assert told.splitlines()[:2] == ["holds  Squares add up to five.", "FAILS  To no more than four."]
    folder = tmp_path / "runs" / "squares"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["figures"] == {"total": 5}
    assert [claim["holds"] for claim in summary["claims"]] == [True, False]
    assert summary["trials"]["trial-2"]["square"] == 4
    assert summary["trials"]["trial-2"]["odd"] is None
    page = (folder / "report.html").read_text()
    assert "How fast do &lt;squares&gt; grow?" in page
    assert page.count("<svg") == 1
    assert "prefers-color-scheme: dark" in page
    assert "http" not in page  # nothing is fetched by the page


def test_finished_trials_are_kept_and_a_damaged_one_is_made_again(calls, recipe, tmp_path):
    calls.append("stop")
    with pytest.raises(Interrupted):
        module.conduct(recipe, [], tmp_path)
    module.conduct(recipe, [], tmp_path)
    assert calls == [0, 1, 2]
    manifest = tmp_path / "squares" / "trials" / "trial-1" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"square": 1', b'"square": 7'))
    module.conduct(recipe, [], tmp_path)
    assert calls == [0, 1, 2, 1]


def test_the_second_of_three_trials_is_interrupted(calls, recipe, tmp_path, monkeypatch):
    real = module.definition(None, None).run

    def run(study):
        trial = study.trial

        def counting(name, measure):
            if name == "trial-1" and "once" not in calls:
                calls.extend(["once", "stop"])
            return trial(name, measure)

        monkeypatch.setattr(study, "trial", counting)
        return real(study)

    monkeypatch.setattr(module, "definition", lambda *_: types.SimpleNamespace(Settings=Settings, run=run))
    with pytest.raises(Interrupted):
        module.conduct(recipe, [], tmp_path)
    assert [m["trial"] for m in trials_of(tmp_path / "squares")] == ["trial-0"]
    module.conduct(recipe, [], tmp_path)
    assert calls == [0, "once", 1, 2]
    attempts = {m["trial"]: m["attempts"] for m in trials_of(tmp_path / "squares")}
    assert attempts == {"trial-0": 1, "trial-1": 2, "trial-2": 1}


@pytest.mark.usefixtures("calls")
def test_other_settings_in_the_same_folder_are_refused(recipe, tmp_path):
    module.conduct(recipe, [], tmp_path)
    with pytest.raises(
        UserError, match=r"there `trials` is 3, here 2; give this one a name of its own with --run NAME"
    ):
        module.conduct(recipe, ["trials=2"], tmp_path)
    module.conduct(recipe, ["trials=2", "run=other"], tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "recipe.yaml").write_text("run: taken\n")
    with pytest.raises(UserError, match="is the folder of a run"):
        module.conduct(recipe, ["run=taken"], tmp_path)


def test_mistakes_in_a_recipe_are_one_sentence(recipe, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="`study` is 'squares', which is no study; did you mean `"):
        module.conduct(recipe, [], tmp_path)
    with pytest.raises(UserError, match=r"no study; did you mean `rivals`"):
        module.conduct(recipe, ["study=rival"], tmp_path)
    monkeypatch.setattr(module, "definition", lambda *_: types.SimpleNamespace(Settings=Settings, run=None))
    with pytest.raises(UserError, match=r"The command line: `trails` is not a setting; did you mean `trials`\?"):
        module.conduct(recipe, ["trails=2"], tmp_path)
    recipe.write_text("run: x\n")
    with pytest.raises(UserError, match="lacks `study: NAME`"):
        module.conduct(recipe, [], tmp_path)


@pytest.mark.usefixtures("calls")
def test_runs_lists_studies_and_does_not_take_them_for_runs(recipe, tmp_path):
    module.conduct(recipe, [], tmp_path / "runs")
    assert "squares  study, 3 trials, finished" in catalogue.table(tmp_path / "runs")
    with pytest.raises(UserError, match="no run"):
        catalogue.find_run("squares", tmp_path / "runs")


def test_the_command_ends_with_0_2_or_130(calls, recipe, tmp_path, capsys):
    def ends(*arguments):
        with pytest.raises(SystemExit) as ended:
            cli.build()(["study", str(recipe), *arguments, "--runs", str(tmp_path / "runs")])
        return ended.value.code, capsys.readouterr()

    calls.append("stop")
    code, said = ends("--run", "2024")
    assert (code, said.err.splitlines()[-1]) == (130, endings.STOPPED)
    code, said = ends("--run", "2024")
    assert code == 0
    assert said.out.splitlines()[-1] == f"Report: {tmp_path / 'runs' / '2024' / 'report.html'}"
    code, said = ends("--run", "2024", "seed=x")
    assert code == 2
    assert "The command line: `seed` is 'x'" in said.err

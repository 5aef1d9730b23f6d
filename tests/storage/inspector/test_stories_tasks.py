"""The pages of tasks and rubrics."""

from __future__ import annotations

from starlette.testclient import TestClient

from sparring.storage.samples import sample_step

MADE = sample_step(1, episodes=4).episodes[0]


def test_a_task_is_found_by_the_beginning_of_its_key(reader: TestClient) -> None:
    given, task = MADE.tasks
    told = reader.get(f"/runs/r1/tasks/{task.key[:12]}.json").json()
    assert told["task"]["key"] == task.key
    assert told["payload"] == task.payload and told["secret"] == task.secret
    assert [one["key"] for one in told["ancestors"]] == [given.key]
    assert told["task"]["tries"] == 7


def test_a_task_page_hides_the_secret_in_a_fold(reader: TestClient) -> None:
    page = reader.get(f"/runs/r1/tasks/{MADE.tasks[1].key}").text
    folded = page.split("Known to the environment alone")[1].split("</details>")[0]
    assert MADE.tasks[1].secret["reference"] in folded


def test_an_unknown_task_leads_to_tasks_that_are_there(reader: TestClient) -> None:
    page = reader.get("/runs/r1/tasks/zebra")
    assert page.status_code == 404
    assert page.text.count('<li><a href="/runs/r1/tasks/') == 5


def test_lists_of_tasks_and_rubrics_go_on_where_a_page_ended(reader: TestClient) -> None:
    for what in ("tasks", "rubrics"):
        whole = reader.get(f"/runs/r1/{what}.json").json()[what]
        rest = reader.get(f"/runs/r1/{what}.json", params={"after": "2/3"}).json()[what]
        assert rest and rest == whole[len(whole) - len(rest) :] and len(rest) < len(whole)
        assert reader.get(f"/runs/r1/{what}", params={"after": "nonsense"}).status_code == 404


def test_a_rubric_page_tells_criteria_answers_and_critiques(reader: TestClient) -> None:
    address = "/runs/r1/steps/1/episodes/0/rubrics/2"
    told = reader.get(address + ".json").json()
    assert [one["text"] for one in told["criteria"]] == [one.text for one in MADE.rubrics[2].criteria]
    assert sum(len(one["answer"]["words"]) for one in told["answers"]) == 7
    page = reader.get(address)
    assert page.status_code == 200 and "agrees with the verifier" in page.text


def test_an_absent_rubric_leads_to_its_episode(reader: TestClient) -> None:
    page = reader.get("/runs/r1/steps/1/episodes/0/rubrics/5")
    assert page.status_code == 404
    assert "it has rubrics at #2" in page.text and "/runs/r1/steps/1/episodes/0" in page.text

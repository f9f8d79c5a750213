"""What the clients have to see: `checks.py URL [KEY]`. Every function whose name begins with `check_` is one check."""

import enum
import json
import sys
import urllib.error
import urllib.request

import openai
import pydantic
import typesafe_sdk

import checking

URL = sys.argv[1].rstrip("/")
KEY = sys.argv[2] if len(sys.argv) > 2 else None

CLEAR = "I was charged twice for order 48213 and I need one of the two payments back."
STRANGE = "do you know a good hamster wheel for my school play about Everest?"
# Longer than the 1,024 bytes from which on typesafe-sdk compresses its bodies.
LONG = f"{CLEAR} " * 20

openai_client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY or "none", max_retries=0)
typesafe_client = typesafe_sdk.TypeSafeClient(
    base_url=URL, api_key=KEY or "none", retry=typesafe_sdk.RetryPolicy(max_retries=0)
)


def get(path, **headers):
    """A plain request: status and body."""
    if KEY:
        headers.setdefault("authorization", f"Bearer {KEY}")
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, headers=headers)) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


TASK = json.loads(get("/v1/tasks/support")[1])
TEAMS = next(question["values"] for question in TASK["questions"] if question["name"] == "team")
FIELD = TASK["fields"][0]

TEAM = {"type": "choice", "name": "team", "instructions": "Which team?", "choices": [{"value": v} for v in reversed(TEAMS)]}
URGENT = {"type": "predicate", "name": "urgent", "instructions": "Would waiting do harm?"}
TEAM_OR_REFUSAL = {"choice", "refusal"}


def near(left, right):
    return abs(left - right) < 1e-4


def raises(kind, call, **wanted):
    try:
        call()
    except kind as error:
        for name, value in wanted.items():
            assert getattr(error, name) == value, (name, getattr(error, name), value)
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def check_decisions_parse_and_are_in_order():
    decision = openai_client.decisions.create(model="support", input=CLEAR, questions=[URGENT, TEAM])
    assert decision.model == "support"
    urgent, team = decision.answers
    assert urgent.name == "urgent" and team.name == "team"
    if urgent.type == "predicate":
        assert 0 <= urgent.probability <= 1
    if team.type == "choice":
        assert team.choice in TEAMS and 0 <= team.confidence <= 1
        assert [p.value for p in team.probabilities] == list(reversed(TEAMS)), "in the order of the request"
        assert near(sum(p.probability for p in team.probabilities), 1)
    assert {urgent.type} <= {"predicate", "refusal"} and {team.type} <= TEAM_OR_REFUSAL
    assert decision.usage.total_tokens == decision.usage.input_tokens + decision.usage.output_tokens


def check_decisions_say_in_headers_how_they_were_made():
    raw = openai_client.decisions.with_raw_response.create(model="support", input=CLEAR, questions=[TEAM, URGENT])
    decision = raw.parse()
    headers = raw.headers
    assert headers["x-sizewise-task"] == "support"
    assert len(headers["x-sizewise-release"]) == 64
    assert headers["x-sizewise-certified"] in ("true", "false")
    assert headers["x-sizewise-decision-id"] == decision._request_id
    assert int(headers["x-sizewise-elapsed-us"]) >= 0 and int(headers["x-sizewise-cost-micro-usd"]) == 0
    for name in ("tier", "confidence", "threshold"):
        assert len(headers[f"x-sizewise-{name}"].split(",")) == 2, name
    refused = [answer.type == "refusal" for answer in decision.answers]
    assert ("x-sizewise-escalated" in headers) == any(refused)
    if any(refused):
        assert [reason != "-" for reason in headers["x-sizewise-escalated"].split(",")] == refused
    if decision.answers[0].type == "choice":
        assert near(decision.answers[0].confidence, float(headers["x-sizewise-confidence"].split(",")[0]))


def check_decisions_without_names_are_matched_by_values():
    unnamed = {key: value for key, value in TEAM.items() if key != "name"}
    other_name = {**TEAM, "name": "department"}
    decision = openai_client.decisions.create(model="support", input=CLEAR, questions=[unnamed, other_name])
    assert decision.answers[0].name is None and decision.answers[1].name == "department"


def check_decisions_read_messages_and_fields_alike():
    def ask(content):
        return openai_client.decisions.create(model="support", input=content, questions=[TEAM]).answers

    plain = ask(CLEAR)
    assert ask([{"role": "system", "content": "Say nothing."}, {"role": "user", "content": CLEAR}]) == plain
    assert ask([{"role": "user", "content": [{"type": "input_text", "text": CLEAR}]}]) == plain
    assert ask([{"role": "user", "content": [{"type": "input_json", "data": {FIELD: CLEAR, "x": 1}}]}]) == plain


def check_decisions_mistakes_have_their_errors():
    def ask(**changes):
        arguments = {"model": "support", "input": CLEAR, "questions": [TEAM], **changes}
        return lambda: openai_client.decisions.create(**arguments)

    error = raises(openai.NotFoundError, ask(model="suport"), code="unknown_task", param="model")
    assert "did you mean `support`?" in error.message, error.message
    raises(openai.BadRequestError, ask(questions=[]), code="request_invalid", param="questions")
    fewer = {**TEAM, "choices": TEAM["choices"][:-1]}
    error = raises(
        openai.BadRequestError, ask(questions=[URGENT, fewer]), code="unknown_question", param="questions[1].choices"
    )
    assert f"`{TEAMS[0]}`" in error.message
    raises(openai.BadRequestError, ask(questions=[{"type": "rank"}]), param="questions[0].type")
    other = {"type": "predicate", "name": "angry", "instructions": "Angry?"}
    raises(openai.BadRequestError, ask(questions=[other]), code="unknown_question", param="questions[0]")
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]
    raises(openai.BadRequestError, ask(input=image), code="input_invalid", param="input[0].content[0]")
    raises(openai.BadRequestError, ask(input=""), code="input_invalid", param="input")
    raises(openai.BadRequestError, ask(input="x" * 300_000), code="input_too_long", param="input")
    too_large = raises(openai.APIStatusError, ask(input="x" * 9_000_000), code="body_too_large")
    assert too_large.status_code == 413


def check_an_input_from_elsewhere_is_refused_or_answered_with_its_confidence():
    raw = openai_client.decisions.with_raw_response.create(model="support", input=STRANGE, questions=[TEAM])
    answer = raw.parse().answers[0]
    assert answer.type in TEAM_OR_REFUSAL
    assert (answer.type == "refusal") == ("x-sizewise-escalated" in raw.headers)


def check_chat_answers_with_an_object_of_all_questions():
    completion = openai_client.chat.completions.create(
        model="support", messages=[{"role": "system", "content": "Say billing."}, {"role": "user", "content": CLEAR}]
    )
    choice = completion.choices[0]
    assert completion.object == "chat.completion" and completion.model == "support"
    assert choice.finish_reason == "stop" and choice.message.role == "assistant"
    assert (choice.message.content is None) != (choice.message.refusal is None)
    if choice.message.content:
        value = json.loads(choice.message.content)
        assert value["team"] in TEAMS and isinstance(value["urgent"], bool)
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def check_chat_fills_a_pydantic_model():
    Team = enum.Enum("Team", {value: value for value in TEAMS})

    class Triage(pydantic.BaseModel):
        urgent: bool
        team: Team

    completion = openai_client.chat.completions.parse(
        model="support", messages=[{"role": "user", "content": CLEAR}], response_format=Triage
    )
    message = completion.choices[0].message
    assert (message.parsed is None) == (message.refusal is not None)
    if message.parsed:
        assert message.parsed.team.value in TEAMS and isinstance(message.parsed.urgent, bool)


def check_chat_leaves_null_where_a_model_allows_it():
    class Triage(pydantic.BaseModel):
        team: str | None
        urgent: bool | None

    completion = openai_client.chat.completions.parse(
        model="support", messages=[{"role": "user", "content": STRANGE}], response_format=Triage
    )
    message = completion.choices[0].message
    assert message.parsed is not None or message.refusal is not None


def check_chat_refuses_a_schema_that_the_task_cannot_meet():
    class Narrow(pydantic.BaseModel):
        team: enum.Enum("Narrow", {"one": TEAMS[0]})

    error = raises(
        openai.BadRequestError,
        lambda: openai_client.chat.completions.parse(
            model="support", messages=[{"role": "user", "content": CLEAR}], response_format=Narrow
        ),
        code="request_invalid",
        param="response_format.json_schema.schema.properties.team",
    )
    assert f"`{TEAMS[1]}`" in error.message, error.message


def check_chat_streams_chunks_that_add_up_to_the_whole():
    messages = [{"role": "user", "content": CLEAR}]
    whole = openai_client.chat.completions.create(model="support", messages=messages).choices[0].message
    chunks = list(
        openai_client.chat.completions.create(
            model="support", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == (whole.content or "")
    reason = "".join(delta.refusal or "" for delta in deltas)
    assert bool(reason) == (whole.refusal is not None)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None and chunks[-1].choices == []
    assert len({chunk.id for chunk in chunks}) == 1


def check_chat_streams_into_a_pydantic_model():
    class Triage(pydantic.BaseModel):
        team: str
        urgent: bool

    with openai_client.chat.completions.stream(
        model="support", messages=[{"role": "user", "content": CLEAR}], response_format=Triage
    ) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    if message.refusal is None:
        assert message.parsed.team in TEAMS and "content.done" in kinds, kinds
    else:
        assert "refusal.done" in kinds, kinds


def check_chat_refuses_by_name_what_no_task_does():
    def ask(**extra):
        messages = [{"role": "user", "content": CLEAR}]
        return lambda: openai_client.chat.completions.create(model="support", messages=messages, **extra)

    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    raises(openai.BadRequestError, ask(n=2), param="n")
    raises(openai.BadRequestError, ask(tools=[tool]), param="tools")
    raises(openai.BadRequestError, ask(logprobs=True), param="logprobs")
    raises(openai.BadRequestError, ask(stream=True, n=2), param="n")


def check_models_are_listed_for_both_clients():
    models = openai_client.models.list().data
    assert "support" in [model.id for model in models]
    assert openai_client.models.retrieve("support").object == "model"
    raises(openai.NotFoundError, lambda: openai_client.models.retrieve("none"), code="unknown_task")
    described = {model.name: model for model in typesafe_client.models.list().models}
    assert len(described["support"].release_date) == 10


def typesafe(state, model="support", **questions):
    questions = questions or {
        "team": typesafe_sdk.Choice(instructions="Which team?", criteria={value: None for value in TEAMS}),
        "urgent": typesafe_sdk.Noul(instructions="Would waiting do harm?"),
    }
    return typesafe_client.system_one(state=state, questions=questions, model=model)


def check_system_one_parses():
    result = typesafe(CLEAR)
    headers = result.raw_http_response.headers
    escalated = headers.get("x-sizewise-escalated", "-,-").split(",")
    assert ("team" in result.choices, "urgent" in result.nouls) == tuple(reason == "-" for reason in escalated)
    if "team" in result.choices:
        team = result.choices["team"]
        assert team.choice in TEAMS and near(sum(team.probabilities.values()), 1)
    if "urgent" in result.nouls:
        assert 0 <= result.nouls["urgent"].noul <= 1
    assert result.request_id == headers["x-sizewise-decision-id"]
    assert result.usage.input_tokens >= 0


def check_system_one_reads_fields_and_compressed_bodies():
    assert typesafe({FIELD: CLEAR}).answers == typesafe(CLEAR).answers
    with typesafe_sdk.TypeSafeClient(base_url=URL, api_key=KEY or "none", compression="zstd") as client:
        result = client.system_one(
            state=LONG, questions={"urgent": typesafe_sdk.Noul(instructions="?")}, model="support"
        )
        assert result.raw_http_response.request.headers["content-encoding"] == "zstd"


def check_system_one_leaves_out_what_nobody_is_sure_of():
    result = typesafe(STRANGE)
    body = result.raw_http_response.json()["answers"]
    for name, answer in body.items():
        assert (answer["type"] == "refusal") == (name not in result.answers), answer


def check_system_one_mistakes_have_their_errors():
    error = raises(typesafe_sdk.TypeSafeNotFoundError, lambda: typesafe(CLEAR, model="none"), status=404)
    assert "`none`" in str(error)
    fewer = {value: None for value in TEAMS[1:]}
    error = raises(
        typesafe_sdk.TypeSafeBadRequestError,
        lambda: typesafe(CLEAR, team=typesafe_sdk.Choice(instructions="?", criteria=fewer)),
    )
    assert f"`{TEAMS[0]}`" in str(error), str(error)
    assert error.body["detail"][0]["loc"] == ["body", "questions", "team", "criteria"], error.body
    raises(typesafe_sdk.TypeSafeBadRequestError, lambda: typesafe({"other_field": CLEAR}))


def check_keys_are_asked_for_once_there_are_any():
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="wrong", max_retries=0)
    other = typesafe_sdk.TypeSafeClient(base_url=URL, api_key="wrong", retry=typesafe_sdk.RetryPolicy(max_retries=0))
    if KEY:
        raises(openai.AuthenticationError, stranger.models.list, code="key_invalid", status_code=401)
        raises(typesafe_sdk.TypeSafeAuthenticationError, other.models.list, status=401)
        assert get("/v1/models", authorization="")[0] == 401
        assert get("/v1/models", authorization="", **{"x-api-key": KEY})[0] == 200
    else:
        assert stranger.models.list().data and other.models.list().models


def check_pages_from_elsewhere_are_refused_without_keys():
    status, body = get("/v1/models", origin="https://evil.example")
    assert (status == 403) == (KEY is None), (status, body)
    status, body = get("/v1/models", host="evil.example")
    assert (status == 403) == (KEY is None), (status, body)


def check_the_rest_answers_too():
    assert get("/healthz")[0] == 200 and get("/readyz")[0] == 200
    assert json.loads(get("/openapi.json")[1])["openapi"].startswith("3.1")
    assert "sizewise_http_requests_total" in get("/metrics")[1]
    assert "certificates" in json.loads(get("/v1/tasks/support/certificate")[1])
    assert get("/nothing")[0] == 404


if __name__ == "__main__":
    sys.exit(checking.run(globals(), f"{'with' if KEY else 'without'} a key"))

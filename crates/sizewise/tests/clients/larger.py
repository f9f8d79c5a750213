"""What the clients have to see of larger models behind the server: `larger.py URL KEY`."""

import sys

import anthropic
import google.genai
import openai

import checking

URL, KEY = sys.argv[1].rstrip("/"), sys.argv[2]
STRANGE = "do you know a good hamster wheel for my school play about Everest?"
MESSAGES = [{"role": "user", "content": "hi"}]

openai_client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
anthropic_client = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
gemini_client = google.genai.Client(api_key=KEY, http_options={"base_url": URL})


def check_a_chat_passes_through():
    raw = openai_client.chat.completions.with_raw_response.create(model="chatty", messages=MESSAGES)
    reply = raw.parse()
    assert reply.choices[0].message.content == "hello from large-1", reply
    assert reply.usage.total_tokens == 110
    assert raw.headers["x-sizewise-provider"] == "chatty" and raw.headers["x-sizewise-attempts"] == "1"


def check_another_model_of_the_provider_can_be_named():
    reply = openai_client.chat.completions.create(model="chatty/other-9", messages=MESSAGES)
    assert reply.choices[0].message.content == "hello from other-9", reply


def check_a_chat_streams_through():
    with openai_client.chat.completions.create(model="chatty", messages=MESSAGES, stream=True) as stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert said == "hello from large-1", said


def check_embeddings_pass_through():
    reply = openai_client.embeddings.create(model="chatty", input="x", encoding_format="float")
    assert reply.data[0].embedding == [0.5, 0.25], reply


def check_a_message_passes_through():
    reply = anthropic_client.messages.create(model="letters", max_tokens=50, messages=MESSAGES)
    assert reply.content[0].text == "hello from large-2" and reply.usage.input_tokens == 100, reply


def check_a_message_streams_through():
    with anthropic_client.messages.stream(model="letters", max_tokens=50, messages=MESSAGES) as stream:
        said = "".join(stream.text_stream)
        assert stream.get_final_message().stop_reason == "end_turn"
    assert said == "hello from large-2", said


def check_content_passes_through():
    reply = gemini_client.models.generate_content(model="stars", contents="hi")
    assert reply.text == "hello from large-3", reply
    assert reply.usage_metadata.total_token_count == 110


def check_content_streams_through():
    said = "".join(part.text or "" for part in gemini_client.models.generate_content_stream(model="stars", contents="hi"))
    assert said == "hello from large-3", said


def check_mistakes_have_the_errors_of_their_protocol():
    try:
        gemini_client.models.generate_content(model="nobody", contents="hi")
        raise AssertionError("nobody answered")
    except google.genai.errors.ClientError as error:
        assert (error.code, error.status) == (404, "NOT_FOUND"), error
    try:
        anthropic_client.messages.create(model="chatty", max_tokens=5, messages=MESSAGES)
        raise AssertionError("a provider of another protocol answered")
    except anthropic.BadRequestError as error:
        assert "protocol" in str(error), error
    try:
        openai_client.chat.completions.create(model="nobody", messages=MESSAGES)
        raise AssertionError("nobody answered")
    except openai.NotFoundError as error:
        assert error.code == "unknown_task", error


def check_what_no_local_tier_answers_is_answered_by_the_larger_model():
    raw = openai_client.chat.completions.with_raw_response.create(
        model="support", messages=[{"role": "user", "content": STRANGE}]
    )
    assert "remote" in raw.headers["x-sizewise-tier"], raw.headers
    assert "chatty" in raw.headers["x-sizewise-remote"], raw.headers
    assert int(raw.headers["x-sizewise-cost-micro-usd"]) > 0
    assert raw.parse().choices[0].message.content


def check_models_and_providers_are_listed():
    listed = {model.id for model in openai_client.models.list()}
    assert {"support", "chatty", "letters", "stars"} <= listed, listed


if __name__ == "__main__":
    sys.exit(checking.run(globals(), "larger models"))

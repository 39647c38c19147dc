"""The part of OpenAI's chat-completions request that this server understands.

Fields that would change the answer and are not implemented are refused rather than ignored; fields that cannot
change it (`user`, `metadata`, …) are ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from digits_vlm.errors import APIError

# Field → the values that ask for nothing beyond what the server does.
_INERT: dict[str, tuple[Any, ...]] = {
    "stream": (None, False),
    "n": (None, 1),
    "stop": (None, [], ""),
    "logprobs": (None, False),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "top_p": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
}


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class TextPart(_Part):
    """A piece of text in a message."""

    type: Literal["text"]
    text: str


class ImageAddress(_Part):
    """Where the picture is: a base64 data URI."""

    url: str


class ImagePart(_Part):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageAddress


class Message(_Part):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: list[Annotated[TextPart | ImagePart, Field(discriminator="type")]]

    @field_validator("content", mode="before")
    @classmethod
    def _from_string(cls, value: object) -> object:
        return [{"type": "text", "text": value}] if isinstance(value, str) else value

    def text(self) -> str:
        """Return the message's text, its parts joined by spaces."""
        return " ".join(part.text for part in self.content if isinstance(part, TextPart))

    def images(self) -> list[str]:
        """Return the addresses of the message's pictures."""
        return [part.image_url.url for part in self.content if isinstance(part, ImagePart)]


class ChatRequest(BaseModel):
    """The body of `POST /v1/chat/completions`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    seed: int | None = None

    def refuse_unsupported(self) -> None:
        """Raise `APIError` for a field that asks for something the server cannot do."""
        for name, value in (self.model_extra or {}).items():
            if name in _INERT and value not in _INERT[name]:
                message = f"{name} is not supported by this server"
                raise APIError(message, param=name, code="unsupported_parameter")

    def question(self) -> tuple[str, str | None]:
        """Return the last user message's text and the newest picture of the conversation.

        The model was trained on single questions, so earlier text and system messages do not reach it.
        """
        asked = [message for message in self.messages if message.role == "user"]
        if not asked or self.messages[-1].role != "user":
            message = "the last message must come from the user"
            raise APIError(message, param="messages", code="invalid_value")
        if any(len(message.images()) > 1 for message in asked):
            message = "at most one image a message is supported"
            raise APIError(message, param="messages", code="too_many_images")
        images = [uri for message in asked for uri in message.images()]
        return asked[-1].text(), images[-1] if images else None

"""The parameter `claims`: what it requests, and that everything else is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.authorize.claims_request import ClaimsRequest, read_claims_request
from issuer.oauth import InvalidRequest


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        ("{}", ClaimsRequest()),
        ('{"userinfo":{"name":{"essential":true},"email":null}}', ClaimsRequest(("name", "email"))),
        ('{"userinfo":{"https://a.example/x":{"value":1}}}', ClaimsRequest(("https://a.example/x",))),
        ('{"id_token":{"auth_time":{"essential":true}}}', ClaimsRequest()),
        ('{"id_token":{"acr":{"essential":true,"values":["2","phr"]}}}', ClaimsRequest((), ("2", "phr"))),
        ('{"id_token":{"acr":{"essential":true,"value":"2"}}}', ClaimsRequest((), ("2",))),
        ('{"id_token":{"acr":{"values":["2"]}}}', ClaimsRequest()),
        ('{"id_token":{"acr":{"essential":true}}}', ClaimsRequest()),
        ('{"id_token":{"acr":null}}', ClaimsRequest()),
        ('{"id_token":{"sub":{"value":"a"}}}', ClaimsRequest(subject="a")),
        (
            '{"id_token":{"sub":{"value":"a"}},"userinfo":{"sub":{"value":"a"}}}',
            ClaimsRequest(("sub",), (), "a"),
        ),
        ('{"verified_claims":{"x":1}}', ClaimsRequest()),
        ('{"userinfo":{"name":{"essential":false,"purpose":"why"}}}', ClaimsRequest(("name",))),
    ],
)
def test_what_is_requested(text: str, requested: ClaimsRequest) -> None:
    assert read_claims_request(text) == requested


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "null",
        "[]",
        "1",
        '"userinfo"',
        '{"userinfo":null}',
        '{"userinfo":[]}',
        '{"userinfo":"name"}',
        '{"userinfo":{"name":true}}',
        '{"userinfo":{"name":[]}}',
        '{"userinfo":{"name":{"essential":"true"}}}',
        '{"userinfo":{"name":{"values":"x"}}}',
        '{"userinfo":{"name":null,"name":null}}',
        '{"userinfo":{},"userinfo":{}}',
        '{"userinfo":{"na me":null}}',
        '{"userinfo":{"":null}}',
        '{"id_token":{"sub":{"value":1}}}',
        '{"id_token":{"sub":{"values":[{}]}}}',
        '{"id_token":{"acr":{"essential":true,"values":[1]}}}',
        '{"id_token":{"sub":{"values":["a","b"]}}}',
        '{"id_token":{"sub":{"value":"a"}},"userinfo":{"sub":{"value":"b"}}}',
        '{"userinfo":{"name":{"value":NaN}}}',
        '{"userinfo":' + '{"a":' * 5000,
        '{"userinfo":{"name":{"value":' + "9" * 5000 + "}}}",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_claims_request(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["userinfo", "id_token", "sub", "acr", "essential", "values"]), inner
        )
    ),
)


@given(JSON)
def test_no_document_is_an_internal_error(document: object) -> None:
    try:
        read = read_claims_request(json.dumps(document))
    except InvalidRequest:
        return
    assert all(isinstance(each, str) for each in (*read.userinfo, *read.essential_acr))

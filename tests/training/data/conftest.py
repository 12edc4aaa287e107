from tests.hub.fixtures import hub as hub

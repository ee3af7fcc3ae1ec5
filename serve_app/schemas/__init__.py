"""The JSON of requests and answers, with the examples of the OpenAPI document."""

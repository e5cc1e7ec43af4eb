#!/usr/bin/env python3
"""An action controller: puts labels on objects, and adds a ConfigMap that tells where the application runs.

Its intents are in a JSON file: {"INTENT": {"app": "web", "labels": {"tier": "gold"}, "configMap": "where"}}. Without "app" it is for every
app. That is all there is to an action controller: it is registered with the orchestrator under a name, group intents name it and an
intent, and it is called with the AppContext's number when a deployment is prepared.
"""

import json
import pathlib

import grpc
import yaml

import appcontext
import serving
from serving import contract, services


def labelled(manifest, labels):
    """The manifest with these labels, on pod templates too."""
    found = yaml.safe_load(manifest)
    metadata = [found.setdefault("metadata", {})]
    template = (found.get("spec") or {}).get("template")
    if isinstance(template, dict):
        metadata.append(template.setdefault("metadata", {}))
    for place in metadata:
        place["labels"] = {**(place.get("labels") or {}), **labels}
    return yaml.safe_dump(found, sort_keys=False)


def apply(context, intent):
    for app in context.apps():
        if intent.get("app", app) != app:
            continue
        for cluster in context.clusters(app):
            for name, manifest in context.resources(app, cluster).items():
                context.put_resource(app, cluster, name, labelled(manifest, intent.get("labels", {})))
            if where := intent.get("configMap"):
                manifest = {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": where},
                    "data": {"cluster": cluster, "project": context.meta.get("Project", "")},
                }
                context.put_resource(app, cluster, f"{where}+ConfigMap", yaml.safe_dump(manifest, sort_keys=False))


class Labels(services.contextupdateServicer):
    def __init__(self, store, intents):
        self.store, self.intents = store, intents

    def UpdateAppContext(self, request, _):
        intent = json.loads(self.intents.read_text()).get(request.intent_name)
        if intent is None:
            return contract.ContextUpdated(app_context_update_message=f"there is no intent {request.intent_name}")
        try:
            appcontext.edit(self.store, request.app_context, lambda context: apply(context, intent))
        except (appcontext.Unknown, appcontext.Conflict) as problem:
            return contract.ContextUpdated(app_context_update_message=str(problem))
        print(f"intent {request.intent_name} is in AppContext {request.app_context}", flush=True)
        return contract.ContextUpdated(app_context_updated=True)

    def TerminateAppContext(self, _, call):
        call.abort(grpc.StatusCode.UNIMPLEMENTED, "method TerminateAppContext not implemented")

    def PostEvent(self, request, _):
        event = contract.EventType.Name(request.event_type)
        print(f"{event} of AppContext {request.app_context}", flush=True)
        return contract.EventPosted(success=True)


if __name__ == "__main__":
    parser = serving.arguments(__doc__.splitlines()[0])
    parser.add_argument("--intents", required=True, type=pathlib.Path, help="JSON file of the intents")
    options = parser.parse_args()
    labels = Labels(serving.store(options), options.intents)
    serving.serve(options, lambda server: services.add_contextupdateServicer_to_server(labels, server))

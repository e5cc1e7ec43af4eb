#!/usr/bin/env python3
"""A placement controller: keeps the clusters whose name "provider+cluster" matches one of its patterns."""

import fnmatch

import appcontext
import serving
from serving import contract, services


class NoCluster(Exception):
    """An app would be left without clusters."""


class Names(services.PlacementControllerServicer):
    def __init__(self, store, patterns):
        self.store, self.patterns = store, patterns

    def keep(self, context):
        for app in context.apps():
            clusters = context.clusters(app)
            kept = [name for name in clusters if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)]
            if clusters and not kept:
                wanted = " or ".join(self.patterns)
                raise NoCluster(f"no cluster for the app {app}: none of {', '.join(clusters)} matches {wanted}")
            for name in set(clusters) - set(kept):
                context.remove_cluster(app, name)

    def FilterClusters(self, request, _):
        number = request.appContext
        try:
            appcontext.edit(self.store, number, self.keep)
        except (NoCluster, appcontext.Unknown, appcontext.Conflict) as problem:
            return contract.Filtered(appContext=number, message=str(problem))
        print(f"AppContext {number} is left with clusters that match {' or '.join(self.patterns)}", flush=True)
        return contract.Filtered(appContext=number, status=True)


if __name__ == "__main__":
    parser = serving.arguments(__doc__.splitlines()[0])
    parser.add_argument("--keep", action="append", required=True, metavar="PATTERN", help="such as edge+*; repeatable")
    options = parser.parse_args()
    names = Names(serving.store(options), options.keep)
    serving.serve(options, lambda server: services.add_PlacementControllerServicer_to_server(names, server))

"""The survey as a plain script does it, one request after the other over one kept-alive connection: the catalog, and of
every repository the tags, of every tag the manifest, of every image its configuration, each configuration once.

serial_survey.py HOST PORT prints what it saw. It asks for less than it might: the children of an index are taken as read.
"""

import http.client
import json
import sys

ACCEPT = ", ".join([
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
])

connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]))
requests = 0


def get(path):
    global requests
    requests += 1
    connection.request("GET", path, headers={"Accept": ACCEPT})
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        sys.exit(f"{path}: {answer.status}")
    return json.loads(body)


created = {}
tags = 0
for repository in get("/v2/_catalog?n=1000")["repositories"]:
    for tag in get(f"/v2/{repository}/tags/list")["tags"]:
        tags += 1
        manifest = get(f"/v2/{repository}/manifests/{tag}")
        config = manifest.get("config")
        if config and config["digest"] not in created:
            created[config["digest"]] = get(f"/v2/{repository}/blobs/{config['digest']}").get("created")
print(f"{tags} tags, {len(created)} configurations, {requests} requests")

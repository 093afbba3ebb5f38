"""Prints infra/template.yaml as CloudFormation sees it, after the SAM transform.

cfn-lint reads a SAM template leniently: what SAM generates it does not know, so it lets a reference to nothing and an
IAM action that does not exist pass. In the translation it finds both.
"""

import json
import os
import sys

# The translator asks boto3 for a region, though it calls nothing.
os.environ.setdefault("AWS_DEFAULT_REGION", "eu-west-1")

from cfnlint.decode import cfn_yaml
from samtranslator.translator.transform import transform


class NoManagedPolicies:
    """The roles are written out in full; AWS's managed policies are never looked up."""

    def load(self):
        return {}


template = json.loads(json.dumps(cfn_yaml.load(sys.argv[1])))
for resource in template["Resources"].values():
    if resource["Type"] == "AWS::Serverless::Function":
        # What `sam deploy` would put here after uploading the zip.
        resource["Properties"]["CodeUri"] = {"Bucket": "uploaded-by-sam", "Key": "bootstrap.zip"}
json.dump(transform(template, {}, NoManagedPolicies()), sys.stdout, indent=2)

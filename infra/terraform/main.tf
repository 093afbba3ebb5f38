# Tidegate's stack, from Terraform: uploads a release (the folder that .ci/package makes) and deploys its template.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "package" {
  description = "Folder with the release: the zips of the functions, template.yaml and SHA256SUMS."
  type        = string
}

variable "bucket" {
  description = "S3 bucket of the same Region that the release is uploaded to."
  type        = string
}

variable "parameters" {
  description = "Settings, as in Tidegate's README: { SlackSecretName = \"/tidegate/slack\", ... }."
  type        = map(string)
  default     = {}
}

variable "tags" {
  description = "Tags of everything that the stack makes."
  type        = map(string)
  default     = {}
}

locals {
  # Another release is another folder, so CloudFormation sees that the code has changed.
  prefix = "tidegate/${substr(filesha256("${var.package}/SHA256SUMS"), 0, 16)}"
  # Where CloudFormation finds the zips, as `aws cloudformation package` would write it.
  template = replace(
    file("${var.package}/template.yaml"),
    "/CodeUri: ([a-z-]+\\.zip)/",
    "CodeUri: s3://${var.bucket}/${local.prefix}/$1",
  )
}

resource "aws_s3_object" "function" {
  # checkov:skip=CKV_AWS_186: The functions' code is public. The bucket's own encryption does.
  for_each = fileset(var.package, "*.zip")

  bucket = var.bucket
  key    = "${local.prefix}/${each.value}"
  source = "${var.package}/${each.value}"
}

resource "aws_s3_object" "template" {
  # checkov:skip=CKV_AWS_186: As above.
  bucket  = var.bucket
  key     = "${local.prefix}/template.yaml"
  content = local.template
}

resource "aws_cloudformation_stack" "tidegate" {
  # checkov:skip=CKV_AWS_124: The stack is updated by whoever applies this, who is told.
  name = "tidegate"
  # From a bucket, because the template has more than the 51,200 bytes that a request may have.
  template_url = "https://${var.bucket}.s3.${data.aws_region.here.name}.${data.aws_partition.here.dns_suffix}/${aws_s3_object.template.key}"
  parameters   = var.parameters
  tags         = var.tags
  # It makes roles, and CloudFormation expands the SAM transform.
  capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]

  depends_on = [aws_s3_object.function]
}

data "aws_region" "here" {}

data "aws_partition" "here" {}

output "outputs" {
  description = "The stack's outputs: TopicArn, TableName, RejectsQueueUrl and the others."
  value       = aws_cloudformation_stack.tidegate.outputs
}

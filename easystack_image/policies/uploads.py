"""Rules for the ways of uploading that Glance's ``upload_image`` leaves out.

Glance checks it when data is sent with ``PUT``, and only ``modify_image``
when it is staged and imported, or fetched from a URL (glance/api/v2/
image_data.py and images.py): who may rename an image may fill it.
"""

from oslo_policy import policy

#: Data may be staged for an import.
STAGE = 'easystack_image:stage_image'
#: An import may bring data into an image.
IMPORT = 'easystack_image:import_image'

RULES = [
    policy.DocumentedRuleDefault(
        name=STAGE, check_str='rule:upload_image', scope_types=['project'],
        description='Upload the data of an image to the staging area, to be '
                    'imported from there',
        operations=[{'path': '/v2/images/{image_id}/stage',
                     'method': 'PUT'}]),
    policy.DocumentedRuleDefault(
        name=IMPORT, check_str='rule:upload_image', scope_types=['project'],
        description='Import data into an image, by any method but '
                    'copy-image, which Glance\'s rule "copy_image" is for; '
                    'rules may compare with import_method, the name of the '
                    'method',
        operations=[{'path': '/v2/images/{image_id}/import',
                     'method': 'POST'}]),
]

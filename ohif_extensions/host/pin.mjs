// Which OHIF this is made from. A new version means: new numbers here, `npm run build`, and the viewer's browser tests.

export const HOST = {
  name: '@ohif/app',
  version: '3.13.2',
  sha512: 'WZdxmpmG7rqFgW9ZJLcbgr3XCtLi1KDNPoMaeY5PPe6j4G4fjEjjkycZM6C6Zk2F87BKxFfpq+jd5xXZB9E8EA==',
};
